"""A row whose inputs and settings are unchanged is never given to a model again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import support_counting
from support import digests, jpeg
from support_counting import SETTINGS, Notes, counted, stand_ins
from support_llm import make_model

Surd = Callable[..., Any]

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
PICTURES, STOP_AT = 150, 100
STAGES = {"caption": ("captions", 64), "score": ("clip", 64), "embed": ("llm", 20)}
"""Model -> the folder of what it computes, and rows in a batch."""

MODELS = ("caption", "score", "aesthetic", "nsfw", "itm", "embed")


class Interrupt:
    """Ctrl-C, once a model was given so many rows."""

    def __init__(self) -> None:
        self.at: tuple[str, int] | None = None

    def __call__(self, rows: Counter[str]) -> None:
        if self.at is not None and rows[self.at[0]] >= self.at[1]:
            self.at = None
            raise KeyboardInterrupt


@pytest.fixture
def interrupt() -> Interrupt:
    return Interrupt()


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupt: Interrupt) -> Path:
    """Every model of this process is a stand-in; what they are given goes to this file."""
    path = tmp_path / "notes.txt"
    for owner, name, value in stand_ins(Notes(path, interrupt)):
        monkeypatch.setattr(owner, name, value)
    return path


def add_pictures(folder: Path, numbers: range) -> None:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        (folder / f"{number:03}.jpg").write_bytes(jpeg(number))
        (folder / f"{number:03}.txt").write_text(f"masterpiece, thing {number}")


def build(folder: Path, pictures: Path, part_size: int) -> list[str]:
    values = SETTINGS | {"sources.0.path": str(pictures), "part_size": str(part_size)}
    sets = [a for key, value in values.items() for a in ("--set", f"{key}={value}")]
    return ["build", "folder", "-o", str(folder), "-q", "--until", "filter", *sets]


def embed(folder: Path, model: Path) -> list[str]:
    small = ("--layer", "2", "--set", "embed_llm.batch_tokens=100")
    return ["embed-llm", str(folder), "-q", "--model", str(model), *small]


def run(command: list[str], notes: Path, stop: str = "none 1") -> int:
    """In a process of its own, with the stand-ins."""
    environment = {"NOTES": str(notes), "STOP": stop, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, str(support_counting.__file__), *command],
        env=os.environ | environment,
        check=False,
    ).returncode


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a workspace ``w`` of one part, and what made it; nothing disturbed it."""
    folder = tmp_path_factory.mktemp("whole")
    add_pictures(folder / "pictures", range(PICTURES))
    make_model(folder / "tiny")
    for command in (
        build(folder / "w", folder / "pictures", 1000),
        embed(folder / "w", folder / "tiny"),
    ):
        assert run(command, folder / "notes.txt") == 0
    assert counted(folder / "notes.txt") == dict.fromkeys(MODELS, PICTURES)
    return folder


def without(whole: Path, model: str, folder: Path) -> list[str]:
    """A copy that lacks what a model computes; returns the command that computes it."""
    shutil.copytree(whole / "w", folder)
    shutil.rmtree(folder / STAGES[model][0])
    if model == "embed":
        return embed(folder, whole / "tiny")
    return [model, str(folder), "-q"]


def assert_as_whole(whole: Path, folder: Path) -> None:
    assert digests(folder) == digests(whole / "w")
    assert not [path for path in folder.rglob(".*") if path.name != ".surd.lock"]


def assert_went_on(model: str, before: int, rows: Counter[str]) -> None:
    """At most one batch was computed twice, and what was left once."""
    assert before >= STOP_AT
    again = rows[model] - before
    assert PICTURES - before <= again <= PICTURES - STOP_AT + STAGES[model][1]
    assert max(rows.values()) <= PICTURES + STAGES[model][1]


@pytest.mark.parametrize("model", STAGES)
def test_after_ctrl_c_in_a_part_what_was_computed_is_not_computed_again(
    surd: Surd, whole: Path, tmp_path: Path, notes: Path, interrupt: Interrupt, model: str
) -> None:
    command = without(whole, model, tmp_path / "w")
    interrupt.at = (model, STOP_AT)
    ran = surd(*command)
    assert ran.code == 130 and ran.err.endswith("rerun the same command to continue\n")
    before = counted(notes)[model]
    assert surd(*command).code == 0
    assert_went_on(model, before, counted(notes))
    assert_as_whole(whole, tmp_path / "w")


@pytest.mark.parametrize("model", STAGES)
def test_after_a_kill_in_a_part_what_was_computed_is_not_computed_again(
    surd: Surd, whole: Path, tmp_path: Path, notes: Path, model: str
) -> None:
    command = without(whole, model, tmp_path / "w")
    assert run(command, notes, f"{model} {STOP_AT}") == -signal.SIGKILL
    before = counted(notes)[model]
    assert surd(*command).code == 0
    assert_went_on(model, before, counted(notes))
    assert_as_whole(whole, tmp_path / "w")


def test_one_new_picture_in_a_part_is_one_call_of_each_model(
    surd: Surd, tmp_path: Path, notes: Path
) -> None:
    pictures, model = tmp_path / "pictures", tmp_path / "tiny"
    make_model(model)

    def everything(folder: Path) -> None:
        assert surd(*build(folder, pictures, 20)).code == 0
        assert surd(*embed(folder, model)).code == 0

    add_pictures(pictures, range(45))
    everything(tmp_path / "grown")
    assert counted(notes)["caption"] == 45
    notes.unlink()
    add_pictures(pictures, range(45, 46))
    assert surd("collect", tmp_path / "grown").code == 0
    everything(tmp_path / "grown")
    assert counted(notes) == dict.fromkeys(MODELS, 1)
    everything(tmp_path / "at once")
    grown, at_once = (parts(tmp_path / name) for name in ("grown", "at once"))
    assert grown == at_once and len(grown) == 3 * 7


def test_edited_prompts_alone_are_scored_and_embedded_again_and_survive_new_captions(
    surd: Surd, tmp_path: Path, notes: Path
) -> None:
    pictures, model, folder = tmp_path / "pictures", tmp_path / "tiny", tmp_path / "w"
    make_model(model)
    add_pictures(pictures, range(25))
    assert surd(*build(folder, pictures, 20)).code == 0
    assert surd(*embed(folder, model)).code == 0
    before = parts(folder)
    ids = surd("inspect", folder, "--json").json["matches"]
    three = [ids[n]["id"] for n in (1, 2, 19)]
    notes.unlink()
    assert surd("edit", folder, *three, "--simple", "a red cup", "-q").code == 0
    assert surd(*embed(folder, model)).code == 2, "not scored yet"
    applied = surd("edit", folder, "--apply", "-q").out.splitlines()
    assert [line.partition(":")[0] for line in applied] == ["score", "dedup", "filter", "next"]
    assert surd(*embed(folder, model)).code == 0
    scored = {name: 3 for name in MODELS if name not in ("caption", "embed")}
    assert counted(notes) == scored | {"embed": 1}, "one text of three samples"
    (folder / "clip" / "part-00000.parquet").unlink()
    assert surd(*build(folder, pictures, 20), "--set", "caption.top_p=0.5").code == 0
    assert counted(notes)["caption"] == 25
    clip = pq.read_table(folder / "clip" / "part-00000.parquet").to_pylist()
    assert {row["id"] for row in clip if row["simple_prompt"] == "a red cup"} == set(three)
    assert surd("edit", folder, "--undo", "--apply", "-q").code == 0
    assert surd(*embed(folder, model)).code == 0
    now = parts(folder)
    assert {name for name in now if now[name] != before[name]} <= {
        name for name in now if name.startswith("captions")
    }


def test_merged_workspaces_have_each_sample_once_and_no_model_is_asked_again(
    surd: Surd, tmp_path: Path, notes: Path
) -> None:
    one, two, both = (tmp_path / name for name in ("one", "two", "both"))
    for folder, numbers in ((one, range(12)), (two, range(8, 20))):
        add_pictures(tmp_path / f"{folder.name} pictures", numbers)
        assert surd(*build(folder, tmp_path / f"{folder.name} pictures", 5)).code == 0
    ids = [match["id"] for match in surd("inspect", two, "--json").json["matches"]]
    assert surd("edit", two, ids[-1], "--simple", "a jug", "--apply", "-q").code == 0
    assert surd("filter", one, "--drop", ids[0]).code == 0
    notes.unlink()
    before = digests(one) | digests(two)
    done = surd("merge", one, two, "-o", both, "--json").json
    assert (done["samples"], done["doubles"], done["differing"]) == (20, 4, [])
    assert digests(one) | digests(two) == before
    ran = surd("build", "-o", both, "-q", "--until", "filter")
    assert ran.code == 0, ran.err
    assert counted(notes) == {}
    table = pq.ParquetDataset(both / "clip").read(["id", "simple_prompt"]).to_pylist()
    prompts = {row["id"]: row["simple_prompt"] for row in table}
    assert len(table) == len(prompts) == 20 and prompts[ids[-1]] == "a jug"
    assert surd("inspect", both, ids[0]).out.count("dropped: manual (drop)") == 1
    ran = surd("merge", one, two, "-o", both)
    assert ran.code == 2 and "already exists" in ran.err
    ran = surd("merge", one, "-o", tmp_path / "alone")
    assert ran.code == 2 and "two workspaces or more" in ran.err


def parts(folder: Path) -> dict[str, str]:
    """Of all groups but the samples, whose footers tell how they were collected."""
    return {name: digest for name, digest in digests(folder).items() if "samples" not in name}


def some_without_prompts(folder: Path) -> None:
    """Twelve pictures; every third has no prompt."""
    add_pictures(folder, range(12))
    for number in range(0, 12, 3):
        (folder / f"{number:03}.txt").unlink()


def test_what_cannot_be_published_is_captioned_once_it_can(
    surd: Surd, tmp_path: Path, notes: Path
) -> None:
    folder, pictures = tmp_path / "w", tmp_path / "pictures"
    some_without_prompts(pictures)
    assert surd(*build(folder, pictures, 5)).code == 0
    assert counted(notes)["caption"] == 8
    statuses = pq.read_table(folder / "captions")["status"].to_pylist()
    assert Counter(statuses) == {"ok": 8, "no_prompt": 4}
    verdicts = pq.read_table(folder / "verdicts")["reasons"].to_pylist()
    assert [[one["reason"] for one in some] for some in verdicts].count(["no_prompt"]) == 4

    (pictures / "000.txt").write_text("masterpiece, thing 0")
    assert surd("collect", str(folder), "--refresh", "-q").code == 0
    assert surd("build", "-o", str(folder), "-q", "--until", "filter").code == 0
    assert counted(notes)["caption"] == 9

    pairs = "publish.require=[image,simple_prompt]"
    said = surd("filter", str(folder), "--set", pairs).out
    assert "3 images without a complex prompt are not captioned yet; run: surd build" in said
    for require in (pairs, "publish.require=[image,simple_prompt,complex_prompt]", pairs):
        ran = surd("build", "-o", str(folder), "-q", "--until", "filter", "--set", require)
        assert ran.code == 0
        assert counted(notes)["caption"] == 12
    assert set(pq.read_table(folder / "captions")["status"].to_pylist()) == {"ok"}


def test_what_is_left_out_does_not_depend_on_how_often_a_build_stopped(
    surd: Surd, tmp_path: Path, notes: Path, interrupt: Interrupt
) -> None:
    pictures = tmp_path / "pictures"
    some_without_prompts(pictures)
    for name in ("once", "twice"):
        if name == "twice":
            interrupt.at = ("caption", 8 + 5)
            assert surd(*build(tmp_path / name, pictures, 5)).code == 130
        assert surd(*build(tmp_path / name, pictures, 5)).code == 0
    assert digests(tmp_path / "once") == digests(tmp_path / "twice")
