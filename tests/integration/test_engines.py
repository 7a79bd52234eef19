"""One contract for every engine: the same stages give the same bytes, and fail alike."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import digests, pictures
from support_engines import STAGE, Shout, open_and_die_after, write_samples
from support_llm import (
    KEEP,
    SAMPLES,
    make_model,
    make_workspace,
    states_alone,
    tokens_of,
    vectors_of,
)
from support_rounding import assert_only_rounded, rounding

from surd.demo.site import Site
from surd.engine.actors import over_actors
from surd.engine.cluster import Seats
from surd.engine.parts import PartResult
from surd.engine.plan import PartState, plan
from surd.engine.select import Engine, LocalEngine
from surd.engine.stages import open_stage, run_stage
from surd.engine.work import Jobs, finished
from surd.errors import ModelError, SurdError
from surd.store.workspace import Workspace, part_name

Surd = Callable[..., Any]

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


@pytest.fixture(scope="session")
def cluster() -> Iterator[None]:
    """A Ray cluster of two workers on this machine, for all tests."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.MonkeyPatch.context() as patch:  # the workers import support_engines
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            object_store_memory=100_000_000,
        )
    yield
    ray.shutdown()


@pytest.fixture(params=["local", "ray"])
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "local":
        return LocalEngine()
    request.getfixturevalue("cluster")
    from surd.engine.ray import RayEngine

    return RayEngine()


@pytest.fixture
def ray_engine(cluster: None) -> Engine:
    from surd.engine.ray import RayEngine

    return RayEngine()


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "w")
    write_samples(workspace, parts=6)
    return workspace


def run(engine: Engine, workspace: Workspace, params: Shout, **options: Any) -> list[PartResult]:
    jobs = plan(workspace, STAGE, params)
    return list(run_stage(engine, workspace, STAGE, params, jobs, lambda counts: None, **options))


def errors(results: list[PartResult]) -> dict[int, str | None]:
    return {result.part: result.error for result in results}


def written(workspace: Workspace) -> list[bytes]:
    return [workspace.storage.read_bytes(part_name("loud", p)) for p in workspace.parts("loud")]


# Both


def test_an_engine_computes_every_part_and_tells_of_every_row(
    engine: Engine, workspace: Workspace
) -> None:
    told: Counter[str] = Counter()

    def tick(counts: Mapping[str, int]) -> None:
        told.update(counts)

    jobs = plan(workspace, STAGE, Shout())
    results = list(run_stage(engine, workspace, STAGE, Shout(), jobs, tick))
    assert errors(results) == dict.fromkeys(range(6))
    assert told == {"ok": 30}
    assert [state.state for state in plan(workspace, STAGE, Shout())] == ["fresh"] * 6
    assert workspace.read("loud", 3)["loud"].to_pylist()[0] == "PART 3 ROW 0"


def test_a_part_that_fails_is_told_in_one_line_and_the_others_go_on(
    engine: Engine, workspace: Workspace
) -> None:
    params = Shout(at="part 2 row 4", wrong="raise")
    found = errors(run(engine, workspace, params))
    assert found == {**dict.fromkeys(range(6)), 2: "ValueError: cannot shout that"}
    states = plan(workspace, STAGE, params)
    assert [state.state for state in states] == ["fresh"] * 2 + ["failed"] + ["fresh"] * 3
    assert states[2].why == found[2]


@pytest.mark.parametrize("wrong", ["no model", "fatal"])
def test_what_ends_all_of_it_is_raised_as_it_was(
    engine: Engine, workspace: Workspace, wrong: str
) -> None:
    with pytest.raises(ModelError, match=r"^(shout.model: there is none|no space left)"):
        run(engine, workspace, Shout(at="part 0 row 0", wrong=wrong))
    assert workspace.parts("loud") == []


def test_a_damaged_input_is_set_aside_and_computed_again_by_the_next_run(
    engine: Engine, workspace: Workspace
) -> None:
    samples = Path(workspace.storage.path(part_name("samples", 1)))
    data = samples.read_bytes()
    jobs = plan(workspace, STAGE, Shout())
    samples.write_bytes(data[:100] + bytes(100) + data[200:])
    results = list(run_stage(engine, workspace, STAGE, Shout(), jobs, lambda counts: None))
    assert [part for part, error in sorted(errors(results).items()) if error] == [1]


# The same bytes


def build(surd: Surd, site: Site, folder: Path, engine: str) -> Any:
    values = [
        f"sources.0.base_url={site.url}",
        "sources.0.requests_per_s=1000",
        "download.allow_private_addresses=true",
        "download.retries=0",
        "part_size=25",
        "until=prompts",
    ]
    settings = [argument for value in values for argument in ("--set", value)]
    ran = surd("build", "civitai", "-o", folder, "--engine", engine, "--json", *settings)
    assert ran.code == 0, ran.err
    return ran.json["stages"]


def test_a_build_on_ray_gives_the_same_bytes_and_the_same_account(
    cluster: None, surd: Surd, tmp_path: Path
) -> None:
    with Site(pictures(110, p5="not_found", p60="truncated_file", p70="server_error")) as site:
        here = build(surd, site, tmp_path / "here", "local")
        there = build(surd, site, tmp_path / "there", "ray")
        again = build(surd, site, tmp_path / "there", "ray")
    assert digests(tmp_path / "there") == digests(tmp_path / "here")
    assert len(digests(tmp_path / "there")) == 15
    timeless = [{k: v for k, v in stage.items() if k != "seconds"} for stage in here]
    assert [{k: v for k, v in stage.items() if k != "seconds"} for stage in there] == timeless
    assert [stage["computed"] for stage in again] == [0, 0, 0]


def embed(surd: Surd, folder: Path, model: Path, engine: str) -> None:
    command = ("embed-llm", folder, "--model", model, "--layer", 1, "--layer", 2)
    ran = surd(*command, "--engine", engine, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["stages"][0]["computed"] == 4


def test_a_language_models_vectors_are_the_same_bytes_from_ray(
    cluster: None, surd: Surd, tmp_path: Path
) -> None:
    make_model(tmp_path / "llm")
    assert len(set(SAMPLES[:5])) == 5, "no two parts have a prompt in common"
    for name in ("local", "ray"):
        make_workspace(tmp_path / name, [*SAMPLES[:5], None, "the table"], KEEP[:7])
        embed(surd, tmp_path / name, tmp_path / "llm", name)
    assert digests(tmp_path / "ray") == digests(tmp_path / "local")


def test_a_prompt_that_workers_share_has_one_vector_but_for_rounding(
    cluster: None, surd: Surd, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "llm")
    tokens = tokens_of([prompt or "" for prompt in SAMPLES])
    exact = states_alone(model, tokens, torch.float64)
    computed = states_alone(model, tokens, torch.float32)
    for name in ("local", "ray"):
        make_workspace(tmp_path / name, SAMPLES, KEEP)
        embed(surd, tmp_path / name, tmp_path / "llm", name)
    for layer in (1, 2):
        pairs = zip(computed, exact, strict=True)
        error = max(rounding(some[layer], right[layer]) for some, right in pairs)
        here, there = (vectors_of(tmp_path / name, layer, "llm") for name in ("local", "ray"))
        assert [row["simple_prompt"] for row in here].count("a cat") == 2
        for one, other, right in zip(here, there, exact, strict=True):
            found = [row.pop("embedding") for row in (one, other)]
            assert one == other
            if one["status"] == "ok":
                for vector in found:
                    assert_only_rounded(np.float16(vector), right[layer][-1], error)


# Ray alone


def test_an_actor_opens_its_stage_once_for_many_parts(
    ray_engine: Engine, workspace: Workspace, tmp_path: Path
) -> None:
    run(ray_engine, workspace, Shout(notes=str(tmp_path)), workers=2)
    assert 1 <= len(list(tmp_path.glob("opened-*"))) <= 2
    assert len(workspace.parts("loud")) == 6


def test_a_part_whose_worker_died_is_computed_by_another(
    ray_engine: Engine, workspace: Workspace, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    dying = Shout(at="part 1 row 4", wrong="die once", notes=str(tmp_path))
    results = run(ray_engine, workspace, dying)
    assert errors(results) == dict.fromkeys(range(6))
    assert len(list(tmp_path.glob("died-*"))) == 2, "it came to that row twice"
    undisturbed = Workspace(tmp_path / "undisturbed")
    write_samples(undisturbed, parts=6)
    run(LocalEngine(), undisturbed, dying)
    assert written(workspace) == written(undisturbed)
    assert capfd.readouterr().out == "", "standard output is for results"


def test_a_part_that_takes_three_workers_with_it_is_given_up(
    ray_engine: Engine, workspace: Workspace, tmp_path: Path
) -> None:
    params = Shout(at="part 1 row 4", wrong="die", notes=str(tmp_path))
    found = errors(run(ray_engine, workspace, params))
    assert [part for part, error in sorted(found.items()) if error] == [1]
    assert str(found[1]).startswith("its worker died 3 times")
    assert len(list(tmp_path.glob("died-*"))) == 3
    assert plan(workspace, STAGE, params)[1].state == "failed"


def test_a_worker_that_dies_when_it_has_given_its_last_result_costs_nothing(
    cluster: None, tmp_path: Path
) -> None:
    def give_up(job: PartState, why: str) -> PartResult:
        raise AssertionError(why)

    received = tmp_path / "received"
    jobs = [PartState(part, "missing") for part in range(2)]
    open_ = partial(open_and_die_after, received)
    found = []
    for result in finished(over_actors(open_, Jobs(jobs), Seats(1, 1, 0), give_up)):
        found.append(result.part)
        if len(found) == 2:
            received.touch()
    assert found == [0, 1]


def test_a_worker_that_hangs_ends_itself_and_its_part_is_computed_by_another(
    ray_engine: Engine, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surd.engine.actors.SILENCE_S", 20)
    results = run(
        ray_engine, workspace, Shout(at="part 1 row 4", wrong="hang once", notes=str(tmp_path))
    )
    assert errors(results) == dict.fromkeys(range(6))
    assert len(list(tmp_path.glob("hung-*"))) == 2, "it came to that row twice"


@pytest.mark.long
def test_a_worker_that_gives_signs_may_take_longer_than_one_that_gives_none(
    ray_engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surd.engine.actors.SILENCE_S", 20)
    workspace = Workspace(tmp_path / "w")
    write_samples(workspace, parts=1)
    results = run(ray_engine, workspace, Shout(at="part 0", wrong="slow", notes=str(tmp_path)))
    assert errors(results) == {0: None}
    assert len(list(tmp_path.glob("opened-*"))) == 1


def test_a_worker_that_does_not_see_the_workspace_says_what_to_use(tmp_path: Path) -> None:
    from surd import __version__
    from surd.engine.ray import open_on_machine

    workspace = Workspace(tmp_path)
    with pytest.raises(SurdError, match=r"sees no samples there; use a workspace in an object"):
        open_on_machine(__version__, workspace, partial(open_stage, workspace, STAGE), Shout())


def test_a_worker_with_another_surd_says_so(workspace: Workspace) -> None:
    from surd.engine.ray import open_on_machine

    with pytest.raises(
        SurdError, match=r"has surd .*, but this machine has 0\.0; install the same"
    ):
        open_on_machine("0.0", workspace, partial(open_stage, workspace, STAGE), Shout())


def test_a_cluster_that_is_not_up_is_one_line() -> None:
    from surd.engine.cluster import check_answers

    with pytest.raises(SurdError, match=r"127.0.0.1:9: Connection refused; is the cluster running"):
        check_answers("127.0.0.1:9")


def test_a_ray_without_the_function_that_is_silenced_is_told_of_and_used_all_the_same(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("ray", reason="Ray is not installed")
    from ray._private import worker

    from surd.engine.cluster import connect

    monkeypatch.delattr(worker, "print_to_stdstream")
    monkeypatch.setattr("ray.is_initialized", lambda: True)
    assert connect(None) is False
    assert "reports dead workers on standard output" in caplog.text


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (
            ["--engine", "local", "--ray-address", "auto"],
            "has no effect without --engine ray; add that",
        ),
        (["--engine", "ray", "--ray-address", "ray://there:10001"], "Ray Client is not supported"),
    ],
)
def test_an_address_that_is_no_use_is_one_line(
    surd: Surd, workspace: Workspace, tmp_path: Path, options: list[str], line: str
) -> None:
    with Site(pictures(3)) as site:
        build(surd, site, tmp_path / "built", "local")
        settings = ("--set", "prompts.language=false")
        ran = surd("prompts", tmp_path / "built", *settings, *options)
    assert ran.code == 2
    assert line in ran.err and ran.err.count("\n") == 1


def test_without_ray_one_line_says_what_to_install(
    surd: Surd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Site(pictures(3)) as site:
        build(surd, site, tmp_path / "built", "local")
    monkeypatch.setitem(sys.modules, "ray", None)
    ran = surd("prompts", tmp_path / "built", "--set", "prompts.language=false", "--engine", "ray")
    assert (ran.code, ran.err) == (2, 'surd: --engine ray needs Ray: pip install "surd[ray]"\n')
