"""``surd embed-llm`` on small workspaces, with tiny language models."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from support import digests
from support_llm import (
    KEEP,
    LAYERS,
    PROMPTS,
    SAMPLES,
    make_model,
    make_workspace,
    states_alone,
    tokens_of,
    vectors_of,
)
from support_rounding import assert_only_rounded, rounding

from surd.errors import WorkspaceError
from surd.llm import embeddings
from surd.store.workspace import Workspace

Surd = Callable[..., Any]

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Any]:
    folder = tmp_path_factory.mktemp("models") / "tiny"
    return str(folder), make_model(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_workspace(tmp_path / "w", SAMPLES, KEEP)
    return tmp_path / "w"


def times(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("part-*.parquet")}


def test_every_kept_sample_has_the_vector_of_its_prompt(
    surd: Surd, folder: Path, llm: tuple[str, Any]
) -> None:
    name, model = llm
    ran = surd("embed-llm", folder, "--model", name, "--layer", 2, "--layer", -1, "--json")
    assert ran.code == 0, ran.err
    (summary,) = ran.json["stages"]
    assert summary["counts"] == {"ok": 6, "dropped": 1, "no_prompt": 1}
    assert summary["computed"] == 4
    tokens = tokens_of([prompt or "" for prompt in SAMPLES])
    computed = states_alone(model, tokens, torch.float32)
    exact = states_alone(model, tokens, torch.float64)
    for layer in (2, LAYERS):
        found = vectors_of(folder, layer)
        for i, (row, prompt, keep) in enumerate(zip(found, SAMPLES, KEEP, strict=True)):
            if not keep or prompt is None:
                assert row["embedding"] is None and row["status"] in ("dropped", "no_prompt")
                continue
            error = rounding(computed[i][layer], exact[i][layer])
            assert_only_rounded(np.float16(row["embedding"]), exact[i][layer][-1], error)
            assert (row["simple_prompt"], row["tokens"]) == (prompt, 1 + len(prompt.split()))


def test_a_damaged_part_that_it_reads_is_told_with_its_mend(
    surd: Surd, folder: Path, llm: tuple[str, Any]
) -> None:
    verdicts = folder / "verdicts" / "part-00000.parquet"
    verdicts.write_bytes(verdicts.read_bytes()[:-30])
    ran = surd("embed-llm", folder, "--model", llm[0], "--layer", 2)
    assert ran.code == 1
    assert "embed_llm: part 0 failed: verdicts is damaged\n" in ran.err
    assert "verdicts/part-00000.parquet" in ran.err and "--until filter" in ran.err


def test_a_second_run_does_nothing_and_another_layer_only_itself(
    surd: Surd, folder: Path, llm: tuple[str, Any]
) -> None:
    surd("embed-llm", folder, "--model", llm[0], "--layer", 2)
    before = times(folder)
    again = surd("embed-llm", folder, "--json").json["stages"][0]
    assert (again["computed"], again["fresh"]) == (0, 2)
    surd("embed-llm", folder, "--layer", 1, "--layer", 2, "--set", "embed_llm.batch_tokens=3")
    after = times(folder)
    assert {path: after[path] for path in before} == before
    assert {path.parent.name for path in set(after) - set(before)} == {"layer-1"}


def test_a_part_that_is_lost_comes_back_byte_for_byte(
    surd: Surd, folder: Path, llm: tuple[str, Any]
) -> None:
    surd("embed-llm", folder, "--model", llm[0], "--layer", 2)
    before = digests(folder)
    place = folder / "llm" / "tiny" / "layer-2"
    (place / "part-00001.parquet").unlink()
    (place / ".part-00001.parquet.0a1b2c3d.tmp").write_bytes(b"killed")
    assert surd("embed-llm", folder).code == 0
    assert digests(folder) == before


def test_several_devices_give_what_one_gives(
    surd: Surd, tmp_path: Path, llm: tuple[str, Any]
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for folder, device in ((one, "cpu"), (two, "cpu,cpu")):
        make_workspace(folder, SAMPLES * 3, KEEP * 3)
        ran = surd("embed-llm", folder, "--model", llm[0], "--layer", 3, "--device", device)
        assert ran.code == 0, ran.err
        assert not list((folder / "llm").rglob("*.tmp"))
    pairs = list(zip(vectors_of(one, 3), vectors_of(two, 3), strict=True))
    assert len(pairs) == 24
    for left, right in pairs:
        a, b = left.pop("embedding"), right.pop("embedding")
        assert left == right and (a is None) == (b is None)
        np.testing.assert_allclose(a or [], b or [], atol=0.01, rtol=1e-3)


def test_a_damaged_part_is_named_by_several_processes_as_by_one(
    surd: Surd, tmp_path: Path, llm: tuple[str, Any]
) -> None:
    make_workspace(tmp_path, SAMPLES * 3, KEEP * 3)
    part = tmp_path / "clip" / "part-00001.parquet"
    chunk = pq.read_metadata(part).row_group(0).column(0)
    data = bytearray(part.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 1  # seen once it is read
    part.write_bytes(data)
    for device in ("cpu", "cpu,cpu"):
        embed = ("embed-llm", tmp_path, "--model", llm[0], "--layer", 3, "--device", device)
        ran = surd(*embed, "--set", "embed_llm.batch_tokens=64")
        assert ran.code == 2
        assert ran.err.splitlines()[-1].startswith(f"surd: {part}: damaged (")


def test_the_status_counts_the_parts_of_each_layer(
    surd: Surd, folder: Path, llm: tuple[str, Any]
) -> None:
    assert "llm/" not in surd("status", folder).out
    ran = surd("embed-llm", folder, "--model", llm[0], "--layer", 2, "--layer", 3)
    assert f"next: surd train-adapter {folder} --llm {llm[0]}\n" in ran.out
    (folder / "llm" / "tiny" / "layer-3" / "part-00000.parquet").unlink()
    (folder / "llm" / "tiny" / "layer-3" / "part-00001.parquet").write_bytes(b"cut")
    told = surd("status", folder).out
    assert "llm/tiny/layer-2: 2 there; 6 ok, 1 dropped, 1 no_prompt\n" in told
    assert "llm/tiny/layer-3: 0 there, 1 missing, 1 damaged\n  part 0 missing\n" in told
    found = surd("status", folder, "--json").json["groups"]["llm/tiny/layer-3"]
    assert found["states"] == {"there": 0, "missing": 1, "damaged": 1}
    assert [part["part"] for part in found["parts"]] == [0, 1]


def test_a_prompt_is_computed_once_however_many_parts_have_it(
    surd: Surd, tmp_path: Path, llm: tuple[str, Any], embedded: list[int]
) -> None:
    make_workspace(tmp_path / "w", SAMPLES * 3, KEEP * 3)
    told = ("embed-llm", tmp_path / "w", "--model", llm[0])
    assert surd(*told, "--layer", 2, "--layer", 3).code == 0
    assert embedded == [3, 2, 0, 0, 0, 0]
    for layer in (2, 3):
        found = vectors_of(tmp_path / "w", layer)
        assert found[8:16] == [row | {"id": f"{8 + i:032x}"} for i, row in enumerate(found[:8])]
    before = digests(tmp_path / "w")
    for part in (0, 2, 5):
        (tmp_path / "w" / "llm" / "tiny" / "layer-3" / f"part-{part:05d}.parquet").unlink()
    assert surd("embed-llm", tmp_path / "w").code == 0
    assert embedded[6:] == [0, 0, 0]
    assert digests(tmp_path / "w") == before


def test_a_run_that_was_cut_off_goes_on_and_computes_nothing_twice(
    surd: Surd,
    tmp_path: Path,
    llm: tuple[str, Any],
    embedded: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    prompts = [f"{a} {b}" for a in ("a", "two", "the") for b in ("cat", "dog", "table", "rain")]
    for name in ("whole", "cut"):
        make_workspace(tmp_path / name, list(prompts), [True] * 12)
    told = ("--model", llm[0], "--layer", 2)
    assert surd("embed-llm", tmp_path / "whole", *told).code == 0
    assert embedded == [4, 4, 4]
    write = Workspace.writing_part

    def full(self: Any, group: str, part: int, *rest: Any) -> Any:
        if part == 1:
            raise WorkspaceError("no space left")
        return write(self, group, part, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "writing_part", full)
        assert surd("embed-llm", tmp_path / "cut", *told).code == 2
    embedded.clear()
    assert surd("embed-llm", tmp_path / "cut", *told).code == 0
    assert embedded == [0, 0], "all were computed, and could not be written"
    assert vectors_of(tmp_path / "cut", 2) == vectors_of(tmp_path / "whole", 2)


def test_new_verdicts_compute_only_what_has_no_vector(
    surd: Surd, folder: Path, llm: tuple[str, Any], embedded: list[int]
) -> None:
    surd("embed-llm", folder, "--model", llm[0], "--layer", 2)
    before = vectors_of(folder, 2)
    make_workspace(folder, SAMPLES, [True] * 7 + [False])
    embedded.clear()
    surd("embed-llm", folder, "--model", llm[0], "--layer", 2)
    after = vectors_of(folder, 2)
    assert embedded == [1, 0]  # "cat", which was dropped before
    assert after[3]["status"] == "ok" and after[7]["status"] == "dropped"
    assert [after[i] for i in (0, 1, 2, 4, 5)] == [before[i] for i in (0, 1, 2, 4, 5)]


@pytest.mark.parametrize(
    ("setting", "changed"),
    [
        ("embed_llm.template=in the {prompt}", True),
        ("embed_llm.special_tokens=false", True),
        ("embed_llm.pool=mean", True),
        ("embed_llm.dtype=bf16", True),
        ("embed_llm.batch_tokens=9", False),
    ],
)
def test_settings_that_change_vectors_make_them_stale(
    surd: Surd, folder: Path, llm: tuple[str, Any], setting: str, changed: bool
) -> None:
    surd("embed-llm", folder, "--model", llm[0], "--layer", 2)
    before = vectors_of(folder, 2)
    ran = surd("embed-llm", folder, "--set", setting, "--json")
    assert (ran.json["stages"][0]["computed"] == 2) is changed
    assert (vectors_of(folder, 2)[0]["embedding"] != before[0]["embedding"]) is changed


def test_long_prompts_are_cut_and_values_beyond_float16_are_no_vector(
    surd: Surd, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "tiny")
    with torch.no_grad():
        model.model.embed_tokens.weight[8] = 1e6  # "cat"
    model.save_pretrained(tmp_path / "tiny")
    make_workspace(tmp_path / "w", PROMPTS, [True] * 5)
    settings = ("--layer", 0, "--set", "embed_llm.max_tokens=4")
    ran = surd("embed-llm", tmp_path / "w", "--model", tmp_path / "tiny", *settings)
    assert ran.code == 0
    found = vectors_of(tmp_path / "w", 0)
    assert [row["status"] for row in found] == ["cut", "overflow", "cut", "overflow", "ok"]
    assert [row["tokens"] for row in found] == [4, 3, 4, 2, 3]
    assert [row["embedding"] is None for row in found] == [False, True, False, True, False]
    assert len(embeddings.load(tmp_path / "w", "tiny", 0)) == 3


def test_what_is_no_number_gets_no_vector_and_is_named(
    surd: Surd, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = make_model(tmp_path / "tiny")
    with torch.no_grad():
        model.model.embed_tokens.weight[8] = float("inf")  # "cat"
    model.save_pretrained(tmp_path / "tiny")
    make_workspace(tmp_path / "w", PROMPTS, [True] * 5)
    ran = surd("embed-llm", tmp_path / "w", "--model", tmp_path / "tiny", "--layer", 1)
    assert ran.code == 0 and "2 not_finite" in ran.out
    assert "2 prompts, which get no vector: a cat; cat" in caplog.text
    assert "--dtype bf16" in caplog.text
    statuses = [row["status"] for row in vectors_of(tmp_path / "w", 1)]
    assert statuses == ["ok", "not_finite", "ok", "not_finite", "ok"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--layer", 9], "layer 9: the model has layers 0 (embeddings) to 4"),
        (["--model", "./nowhere"], "./nowhere: no such folder"),
        (["--device", "tpu"], "device tpu"),
        (["--set", "embed_llm.template=hello"], "the template must contain {prompt} once"),
        (["--pool", "middle"], "middle"),
        (["--gguf-file", "x.gguf"], "x.gguf: no such GGUF file"),
        (["--quantize", "4bit"], "bitsandbytes"),
    ],
)
def test_bad_input_is_one_line_and_is_not_remembered(
    surd: Surd, folder: Path, llm: tuple[str, Any], arguments: list[Any], says: str
) -> None:
    surd("embed-llm", folder, "--model", llm[0], "--layer", 1)
    ran = surd("embed-llm", folder, *arguments)
    assert ran.code == 2 and says in ran.err
    assert "Traceback" not in ran.err
    assert surd("embed-llm", folder).code == 0


def test_what_is_missing_is_named(surd: Surd, tmp_path: Path, llm: tuple[str, Any]) -> None:
    workspace = make_workspace(tmp_path / "w", SAMPLES, KEEP)
    with pytest.raises(WorkspaceError, match="no vectors of x, layer 3; available: none"):
        embeddings.load(tmp_path / "w", "x", 3)
    for part in workspace.parts("verdicts"):
        workspace.storage.delete(f"verdicts/part-{part:05d}.parquet")
    ran = surd("embed-llm", tmp_path / "w", "--model", llm[0])
    assert ran.code == 2 and "first run: surd filter" in ran.err
    ran = surd("import", "prompt2vec", "no.pt", "-o", tmp_path / "w", "--model", "m", "--layer", 1)
    assert ran.code == 2 and "no.pt: no such file" in ran.err
    ran = surd("import", "prompt2vec", "no.pt", "-o", tmp_path / "w")
    assert ran.code == 2 and "--model NAME --layer N" in ran.err
    (tmp_path / "bad.pt").write_text("hello")
    told = ("--model", "m", "--layer", 1)
    ran = surd("import", "prompt2vec", tmp_path / "bad.pt", "-o", tmp_path / "w", *told)
    assert ran.code == 2 and "not a prompt2vec file" in ran.err


CATS = ["a cat", "a dog", "the cat", "two cats", "a cat", "a table", "the dog", "cups"]


def test_a_prompt_that_a_stale_part_has_reaches_the_part_that_newly_wants_it(
    surd: Surd, tmp_path: Path, llm: tuple[str, Any], embedded: list[int]
) -> None:
    folder = tmp_path / "w"
    make_workspace(folder, CATS, [True] * 4 + [False] + [True] * 3)
    assert surd("embed-llm", folder, "--model", llm[0], "--layer", 2).code == 0
    make_workspace(folder, CATS, [True, False, True, True, True, True, True, True])
    embedded.clear()
    assert surd("embed-llm", folder, "--model", llm[0], "--layer", 2).code == 0
    assert embedded == [0, 0]
    found = vectors_of(folder, 2)
    assert found[4] == found[0] | {"id": found[4]["id"]}


def worker_of(workspace: Workspace, model: str) -> tuple[list[Any], Callable[..., Any]]:
    """The jobs that are due, and what computes some of them in a process of its own."""
    from surd.llm import run
    from surd.recipe.embed_llm import EmbedLlmParams

    params = EmbedLlmParams(model=model, layers=(2,))
    work = run.plan_work(workspace, params)
    embed = run.open_embedder(workspace, work, run.reusable(workspace, work), params)
    return work.jobs, lambda jobs: list(embed(jobs, lambda counts: None))


def test_a_worker_reads_what_is_there_once_however_many_jobs_it_is_handed(
    surd: Surd, tmp_path: Path, llm: tuple[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts = [f"{a} {b}" for a in ("a", "two", "the") for b in ("cat", "dog", "table", "rain")]
    folder = tmp_path / "w"
    make_workspace(folder, list(prompts), [True] * 12, part_size=2)
    assert surd("embed-llm", folder, "--model", llm[0], "--layer", 2).code == 0
    workspace = make_workspace(folder, list(prompts), [True, False] * 6, part_size=2)
    read: list[int] = []
    whole = Workspace.read

    def noting(self: Workspace, group: str, part: int, columns: Any = None) -> Any:
        if group.startswith("llm/") and "embedding" not in columns:
            read.append(part)
        return whole(self, group, part, columns)

    monkeypatch.setattr(Workspace, "read", noting)
    jobs, work = worker_of(workspace, llm[0])
    assert len(jobs) == 6
    for job in jobs:
        work([job])
    assert sorted(read) == [0, 1, 2, 3, 4, 5]


def test_a_prompt_that_another_worker_took_away_meanwhile_is_computed(
    surd: Surd, tmp_path: Path, llm: tuple[str, Any], embedded: list[int]
) -> None:
    folder = tmp_path / "w"
    make_workspace(folder, CATS, [True] * 4 + [False] + [True] * 3)
    assert surd("embed-llm", folder, "--model", llm[0], "--layer", 2).code == 0
    before = vectors_of(folder, 2)[0]
    workspace = make_workspace(folder, CATS, [False] + [True] * 7)
    jobs, one = worker_of(workspace, llm[0])
    _, other = worker_of(workspace, llm[0])
    embedded.clear()
    one(jobs[:1])  # "a cat" is gone from the only part that had it
    other(jobs[1:])
    assert embedded == [0, 1]
    after = vectors_of(folder, 2)[4]
    assert after["status"] == "ok"
    last_place = max(map(abs, before["embedding"])) * 2**-10  # of float16: in another batch
    assert after["embedding"] == pytest.approx(before["embedding"], abs=last_place)


def test_a_worker_that_opens_late_leaves_alone_what_another_is_writing(
    surd: Surd, folder: Path, llm: tuple[str, Any]
) -> None:
    assert surd("embed-llm", folder, "--model", llm[0], "--layer", 2).code == 0
    temporary = folder / "llm" / "tiny" / "layer-2" / ".part-00001.parquet.0a1b2c3d.tmp"
    temporary.write_bytes(b"half of it")
    worker_of(Workspace(folder), llm[0])
    assert temporary.exists()
    assert surd("embed-llm", folder).code == 0
    assert not temporary.exists(), "of a killed run, as far as a build can tell"
