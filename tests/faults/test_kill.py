"""Kill -9 at any moment of any command, run it again: the same bytes as if nothing had happened."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support import pictures
from support_diffusion import MARKS, make_pipeline
from support_faults import small_settings, surd_command
from support_hub import TOKEN, Hub, serving_hub
from support_kill import Surd, contents, differing
from support_llm import make_model
from support_publish import files
from support_training import command as training

from surd.demo.site import Site

pytestmark = MARKS
SEED = int(os.environ.get("SURD_SEED", random.SystemRandom().randrange(10**6)))
KILLS, MANY_KILLS = 6, 60
PICTURES = 40
REPO = "someone/things"


@dataclass(frozen=True)
class Step:
    """A command, and how often it touches a file when nothing disturbs it."""

    name: str
    command: list[object]
    moments: int
    before: Path
    """What the workspace was like."""
    after: dict[str, str]
    said: str


@dataclass
class Way:
    """The whole way from a site to an adapter and a pushed dataset, gone once undisturbed."""

    surd: Surd
    site: Site
    hub: Hub
    workspace: Path
    steps: list[Step]


@pytest.fixture(scope="module")
def way(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Way]:
    folder = tmp_path_factory.mktemp("way")
    make_model(folder / "llm")
    make_pipeline().save_pretrained(folder / "sd")
    shown = pictures(PICTURES, p5="not_found", p21="truncated_file", p30="slow_ok")
    with Site(shown) as site, serving_hub() as hub:
        environment = {
            **{"HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_XET": "1", "HF_TOKEN": TOKEN},
            **{"OMP_NUM_THREADS": "1", "CIVITAI_API_TOKEN": TOKEN},
        }
        with pytest.MonkeyPatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            surd = Surd(folder, environment)
            workspace = folder / "w"
            found = Way(surd, site, hub, workspace, [])
            for name, command in commands(site, folder, workspace).items():
                before = folder / f"before {name}"
                if workspace.exists():
                    shutil.copytree(workspace, before)
                ended = surd(command, workspace)
                assert ended.code == 0, ended.said
                step = Step(name, command, ended.moments, before, contents(workspace), ended.said)
                found.steps.append(step)
            yield found


def commands(site: Site, folder: Path, workspace: Path) -> dict[str, list[object]]:
    llm = ("--model", folder / "llm", "--layer", 1)
    train = training(
        workspace, str(folder / "sd"), workspace / "adapter/run", 6, checkpoint_every=2
    )
    train[train.index("tiny-llm")] = "llm"
    return {
        "build": ["build", "civitai", "-o", workspace, "-q", *small_settings(site)],
        "embed-llm": ["embed-llm", workspace, *llm, "-q"],
        "train-adapter": [*train, "-q"],
        "export": ["export", workspace, "webdataset", "-o", workspace / "tars", "-q"],
        "push": ["push", workspace, "--repo", REPO],
    }


def blow(way: Way, number: int, step: Step) -> str:
    """Kill a command, perhaps more than once, run it again; what is not as undisturbed."""
    chance = random.Random(f"{SEED} {number}")
    apart = number % 2 == 1
    shutil.rmtree(way.workspace)
    if step.before.exists():
        shutil.copytree(step.before, way.workspace)
    way.hub.repos.clear()
    way.hub.objects.clear()
    told = [f"SURD_SEED={SEED}, kill {number}: {step.name}{' in processes' if apart else ''}"]
    for _ in range(chance.choice((1, 1, 2, 3))):
        at = chance.randrange(1, step.moments + 1)
        wait_s = chance.choice((0.0, chance.uniform(0, 0.2)))
        ended = way.surd(step.command, way.workspace, at=at, wait_s=wait_s, apart=apart)
        told.append(f"at {at} of {step.moments} + {wait_s:.2f} s: {ended.code}")
        if ended.code not in (-signal.SIGKILL, 0):
            return "; ".join([*told, ended.said])
        if ended.code == 0:
            break
    print("; ".join(told))
    if ended.code != 0:
        ended = way.surd(step.command, way.workspace)
    if ended.code != 0:
        return "; ".join([*told, ended.said])
    if step.name == "push" and way.hub.files(f"datasets/{REPO}") != files(
        way.workspace / "dataset"
    ):
        return "; ".join([*told, "the hub has something else"])
    others = differing(way.workspace, step.after)
    return "; ".join([*told, *others]) if others else ""


@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(KILLS))
def test_killed_and_run_again_every_file_is_as_if_undisturbed(way: Way, number: int) -> None:
    assert not blow(way, number, way.steps[number % len(way.steps)])


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", range(KILLS, MANY_KILLS))
def test_killed_at_many_moments_every_file_is_as_if_undisturbed(way: Way, number: int) -> None:
    assert not blow(way, number, way.steps[number % len(way.steps)])


def test_no_file_and_no_line_of_the_whole_way_holds_the_secrets_of_the_environment(
    way: Way,
) -> None:
    assert way.steps[-1].name == "push", "the token was used"
    for step in way.steps:
        assert TOKEN not in step.said
    shutil.rmtree(way.workspace)
    shutil.copytree(way.steps[-1].before, way.workspace)
    checked = 0
    for path in way.workspace.rglob("*"):
        if path.is_file():
            assert TOKEN.encode() not in path.read_bytes(), path
            checked += 1
        if path.suffix == ".parquet":
            cells = str(pq.read_table(path).to_pylist()) + str(pq.read_metadata(path).metadata)
            assert TOKEN not in cells, path
    assert checked > 40


def test_damage_in_any_group_is_named_and_mended_by_the_commands_that_made_it(way: Way) -> None:
    build, embed = way.steps[0], way.steps[1]
    shutil.rmtree(way.workspace)
    shutil.copytree(way.steps[2].before, way.workspace)
    parts = sorted(way.workspace.rglob("part-00000.parquet"))
    damaged = [path for path in parts if path.parent.name != "samples"]
    shard = next(way.workspace.glob("dataset/train-*.parquet"))
    assert len(damaged) == 7
    for path in (*damaged, shard):
        data = bytearray(path.read_bytes())
        data[len(data) // 3] ^= 4
        path.write_bytes(data)
    found = way.surd(["status", way.workspace, "--verify"], way.workspace)
    assert found.code == 1
    for path in (*damaged, shard):
        assert found.said.count(f"surd: {path}: damaged (") == 1
    shard.unlink()  # as it is told
    for step in (build, embed):
        ended = way.surd(step.command, way.workspace)
        assert ended.code == 0, ended.said
    assert contents(way.workspace) == embed.after
    assert way.surd(["status", way.workspace, "--verify"], way.workspace).code == 0


def _heed_ctrl_c() -> None:
    """A shell that starts the tests in the background has its children ignore it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


APART = (
    "import surd.cli.app, surd.engine.local as local; local._ROWS_WORTH_A_PROCESS = 1; "
    "surd.cli.app.main()"
)
"""The command line, with stages in processes of their own."""


@pytest.mark.parametrize("apart", [False, True])
def test_ctrl_c_is_one_line_and_the_next_run_goes_on(tmp_path: Path, apart: bool) -> None:
    with Site(pictures(60, p50="slow_drip")) as site:
        start = [sys.executable, "-c", APART] if apart else surd_command()
        process = subprocess.Popen(
            [
                *start,
                *("build", "civitai", "-o", str(tmp_path), "-q"),
                *small_settings(site, until="prompts"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_heed_ctrl_c,
        )
        while site.image_requests.total() < 55:  # the slow one holds the build up
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert err == "surd: stopped; rerun the same command to continue\n"
    assert not list(tmp_path.rglob("*.tmp"))
