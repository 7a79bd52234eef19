"""Small things that people meet every day: short answers, clear blame, ways back, room on disks."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_publish import RECIPE, make_workspace, sample, samples, write_group

from surd.store.workspace import Manifest, Workspace

Surd = Callable[..., Any]
LOOSE = ("--set", "filter.min_side=1", "--clip-threshold", "0.1")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    rows = [*samples(3), sample(3) | {"nsfw_level": "x", "path": "/pictures/night.png"}]
    return make_workspace(tmp_path / "w", [rows])


def test_inspect_is_short_and_says_why_a_sample_was_dropped(
    surd: Surd, workspace: Workspace
) -> None:
    folder = workspace.location
    assert surd("filter", folder, *LOOSE).code == 0
    surd("edit", folder, sample(3)["id"], "--simple", "a night")
    assert sample(3)["id"] in surd("inspect", folder, "A night").out  # words of the edit
    told = surd("inspect", folder, sample(3)["id"]).out.splitlines()
    assert "file: /pictures/night.png" in told and "simple prompt: a night" in told
    assert "verdict: dropped: max_nsfw_level (x against soft)" in told
    assert len(told) < 20 and told[-1].endswith("--all")
    everything = surd("inspect", folder, sample(3)["id"], "--all").out
    assert "samples:\n" in everything and "  nsfw_level: x" in everything
    assert "night.png" in surd("inspect", folder).out


def test_inspect_marks_the_score_of_the_prompt_before_an_edit(
    surd: Surd, workspace: Workspace
) -> None:
    folder, id_ = workspace.location, sample(1)["id"]
    assert "scores: cos_simple 0.2010, cos_complex 0.3000," in surd("inspect", folder, id_).out
    surd("edit", folder, id_, "--simple", "a night")
    told = surd("inspect", folder, id_).out
    assert "cos_simple 0.2010 (of the simple prompt before the edit), cos_complex 0.3000," in told


def test_inspect_tells_files_of_one_name_in_two_folders_apart(surd: Surd, tmp_path: Path) -> None:
    rows = [
        sample(n) | {"path": f"/pictures/{name}", "source_id": name}
        for n, name in enumerate(("a/x.png", f"b/{'long/' * 10}x.png"))
    ]
    folder = make_workspace(tmp_path / "w", [rows]).location
    listed = surd("inspect", folder).out
    assert "  a/x.png  " in listed and "/long/long/x.png  " in listed
    assert "file: /pictures/a/x.png\n" in surd("inspect", folder, "a/x.png").out


def test_inspect_says_of_how_many_it_shows_some(surd: Surd, tmp_path: Path) -> None:
    folder = make_workspace(tmp_path / "w", [samples(4), samples(3, 20)]).location

    def last(*words: Any) -> str:
        return str(surd("inspect", folder, *words).out.splitlines()[-1])

    assert last().startswith("7 of 7 shown; give an id")
    assert last("--limit", 5).startswith("5 of 7 shown; ")
    assert last("red cup 2", "--limit", 3).startswith("3 of 4 shown; ")
    assert last("--limit", 1) == "1 of 7 shown"
    assert last("red cup 21").endswith("--all")
    assert surd("inspect", folder, "--limit", 2, "--json").json["total"] == 7


def test_the_funnel_says_levels_in_words(surd: Surd, workspace: Workspace) -> None:
    ran = surd("filter", workspace.location, *LOOSE)
    assert "for this reason only (threshold soft)" in ran.out


def test_an_empty_workspace_is_told_as_such(surd: Surd, tmp_path: Path) -> None:
    Workspace(tmp_path / "w").write_manifest(Manifest(recipe=dict(RECIPE)))
    ran = surd("inspect", tmp_path / "w")
    assert ran.code == 2 and "has no samples yet; run: surd collect" in ran.err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--min-side", "0"), "--min-side: filter.min_side: "),
        (("--clip-threshold", "high"), "--clip-threshold: filter.clip_threshold: "),
        (("--set", "filter.min_sides=3"), "--set: filter.min_sides: unknown key; did you mean"),
        (("--set", "publish.test=2"), "--set: publish.test: "),
        (("--set", "publish.validation=0.999"), "--set: publish: validation 0.999 and test"),
    ],
)
def test_an_error_names_what_was_typed(
    surd: Surd, workspace: Workspace, arguments: tuple[str, str], says: str
) -> None:
    ran = surd("filter", workspace.location, *arguments)
    assert ran.code == 2 and ran.err.startswith(f"surd: {says}"), ran.err


def test_a_recipe_file_is_not_blamed_for_what_was_typed(surd: Surd, tmp_path: Path) -> None:
    ran = surd("build", "folder", "-o", tmp_path / "w", "--set", "filter.min_sides=3")
    assert ran.code == 2 and ran.err.startswith("surd: --set: filter.min_sides: unknown key")


def test_the_filter_goes_back_to_its_settings_step_by_step(
    surd: Surd, workspace: Workspace
) -> None:
    folder = workspace.location

    def threshold() -> Any:
        return workspace.read_manifest().recipe["filter"]["clip_threshold"]

    assert surd("filter", folder, *LOOSE).code == 0
    kept = surd("filter", folder, "--json").json["kept"]
    assert surd("filter", folder, "--clip-threshold", "0.9").code == 0
    assert surd("filter", folder, "--clip-threshold", "0.9").code == 0, "no change"
    dry = surd("filter", folder, "--undo", "last", "--dry-run", "--json").json
    assert dry["kept"] == kept and threshold() == 0.9
    assert surd("filter", folder, "--undo", "last", "--json").json["kept"] == kept
    assert threshold() == 0.1
    assert surd("filter", folder, "--undo", "last").code == 0
    assert threshold() == 0.26
    ran = surd("filter", folder, "--undo", "last")
    assert ran.code == 2 and "no earlier settings" in ran.err
    ran = surd("filter", folder, "--undo", "last", "--min-side", "3")
    assert ran.code == 2 and "takes no other settings" in ran.err


def test_clean_lists_what_can_go_and_deletes_nothing_else(surd: Surd, workspace: Workspace) -> None:
    folder = Path(workspace.location)
    before = {path for path in folder.rglob("*") if path.is_file()}
    assert "nothing to delete" in surd("clean", folder).out
    for name in (
        "adapter/cache/texts/a.bin",
        "llm/other--model/layer-3/part-00000.parquet",
        "clip/.part-00000.parquet.0a0a0a0a.tmp",
        "dataset.tmp-0123456789abcdef/train-00000.parquet",
    ):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x" * 1000)
    write_group(workspace, "clip", 7, samples(1))
    (folder / "adapter" / "notes.txt").write_text("mine")
    (folder / "edits").mkdir()
    writing, killed = (folder / "edits" / f".a.json.0a0a0a0{n}.tmp" for n in range(2))
    for path in (writing, killed):
        path.touch()
    os.utime(killed, (0, 0))
    ran = surd("clean", folder)
    assert ran.code == 2 and "give --yes" in ran.err
    assert "caches of training: 1 file, 1.0 kB" in ran.out
    told = surd("clean", folder, "--dry-run", "--json").json
    assert [one["what"] for one in told["found"]] == [
        "leftovers of runs that were killed",
        "parts without samples",
        "caches of training",
        "vectors of other language models",
    ]
    assert told["removed"] == []
    assert surd("clean", folder, "--yes").code == 0
    left = {path for path in folder.rglob("*") if path.is_file() and path.name != ".surd.lock"}
    assert left == before | {folder / "adapter" / "notes.txt", writing}
    assert not (folder / "llm").exists()
