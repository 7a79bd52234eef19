"""Small things that people meet every day: short answers, clear blame, ways back, room on disks."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_publish import RECIPE, make_workspace, sample, samples, write_group

from surd.build import needs
from surd.build.run import StageSummary
from surd.dataset.inspect import find
from surd.store.workspace import Manifest, Workspace
from surd.view import gallery
from surd.view.query import Query
from surd.view.state import View

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


@pytest.mark.parametrize("query", ["CUP red", "two cup", "red pictures 0", "path two", "a b/x.png"])
def test_inspect_finds_words_as_the_viewer_does(surd: Surd, tmp_path: Path, query: str) -> None:
    rows = [
        sample(n) | {"prompt": f"red cup {n}", "simple_prompt": word, "path": f"/pictures/{path}"}
        for n, (word, path) in enumerate([("two things", "path/0.png"), ("one", "a b/x.png")])
    ]
    workspace = make_workspace(tmp_path / "w", [rows])
    view = View(workspace)
    seen = gallery.found(view, view.snapshot(), Query(words=query))
    matches, total = find(workspace, query, 9)
    assert [match.id for match in matches] == seen and total == len(seen) > 0


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
        (("--min-margin", "5"), "--min-margin: filter.min_margin: a difference of cosines lies"),
        (("--set", "filter.min_itm=-1"), "--set: filter.min_itm: a probability lies between"),
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
    assert ran.code == 2 and "no earlier settings" in ran.err and "by hand" not in ran.err
    ran = surd("filter", folder, "--undo", "last", "--min-side", "3")
    assert ran.code == 2 and "takes no other settings" in ran.err


@pytest.mark.parametrize(
    "change",
    [
        ("build", "-o", "W", "--until", "prompts", "--set", "filter.min_side=100"),
        ("build", "other.yaml", "-o", "W", "--until", "prompts", "--replace"),
        ("dedup", "W", "--set", "filter.min_side=100"),
    ],
)
def test_undo_takes_back_the_last_change_whatever_command_made_it(
    surd: Surd, workspace: Workspace, tmp_path: Path, change: tuple[str, ...]
) -> None:
    folder = workspace.location
    recipe = workspace.read_manifest().recipe | {"filter": {"min_side": 100}}
    (tmp_path / "other.yaml").write_text(json.dumps(recipe))
    assert surd("filter", folder, *LOOSE, "--min-side", "70").code == 0
    names = {"W": folder, "other.yaml": str(tmp_path / "other.yaml")}
    surd(*(names.get(word, word) for word in change))  # it may end at what there is no site for
    assert workspace.read_manifest().recipe["filter"]["min_side"] == 100
    ran = surd("filter", folder, "--undo", "last")
    first = ran.out.splitlines()[0]
    assert first.startswith("the settings before the last change: ") and ran.code == 0
    assert "filter.min_side 100 -> 70" in first
    assert workspace.read_manifest().recipe["filter"]["min_side"] == 70
    assert workspace.read_manifest().recipe["filter"]["clip_threshold"] == 0.1
    back = surd("filter", folder, "--undo", "last", "--json").json["gone_back"]
    assert back == {"filter.min_side": [70, 256], "filter.clip_threshold": [0.1, 0.26]}


def test_what_is_refused_leaves_the_filters_history_as_it_was(
    surd: Surd, workspace: Workspace
) -> None:
    folder = workspace.location
    assert surd("filter", folder, *LOOSE).code == 0
    assert surd("filter", folder, "--undo", "last", "--keep", "f" * 32).code == 2
    assert surd("filter", folder, "--undo", "last").code == 0


def test_without_earlier_settings_decisions_by_hand_are_named(
    surd: Surd, workspace: Workspace
) -> None:
    folder, id_ = workspace.location, sample(1)["id"]
    surd("filter", folder, "--drop", id_)
    ran = surd("filter", folder, "--undo", "last")
    assert ran.code == 2 and f"undone by --undo ID; the last: drop {id_}" in ran.err


@pytest.mark.parametrize(
    "option",
    [
        "--clip-threshold",
        "--complex-threshold",
        "--min-margin",
        "--min-aesthetic",
        "--max-nsfw",
        "--min-side",
    ],
)
def test_each_threshold_is_switched_off_by_null_and_its_refusal_says_so(
    surd: Surd, workspace: Workspace, option: str
) -> None:
    folder = workspace.location
    ran = surd("filter", folder, option, "none")
    assert ran.code == 2 and ran.err.endswith("not 'none'; null switches it off\n")
    assert surd("filter", folder, option, "null", "--dry-run").code == 0


@pytest.mark.parametrize(
    "options",
    [("--clip-threshold", "0.7"), ("--min-side", "3"), ("--set", "filter.min_side=3")],
)
def test_suggest_takes_no_settings(
    surd: Surd, workspace: Workspace, options: tuple[str, str]
) -> None:
    ran = surd("filter", workspace.location, "--suggest", *options)
    assert ran.code == 2 and f"give {options[0]} without it" in ran.err


@pytest.mark.parametrize(
    ("group", "mend"),
    [
        ("samples", "delete this file and run surd collect W, which fetches its samples from the"),
        ("clip", "run surd build -o W --until score, which computes it again"),
    ],
)
def test_a_damaged_part_is_told_in_one_way_with_its_mend(
    surd: Surd, workspace: Workspace, group: str, mend: str
) -> None:
    folder = workspace.location
    assert surd("filter", folder, *LOOSE).code == 0
    file = Path(folder, group, "part-00000.parquet")
    file.write_bytes(file.read_bytes()[:-30])
    told = f"surd: {file}: damaged (it does not end like a Parquet file); " + mend
    commands = [("filter",), ("filter", "--dry-run"), ("publish",), ("report",)]
    commands += [("collect",), ("status",), ("inspect",)] if group == "samples" else []
    for name, *options in commands:
        ran = surd(name, folder, *options)
        assert ran.code in (1, 2) or name == "status"
        assert told.replace("W,", f"{folder},").replace("W ", f"{folder} ") in ran.err, name


def test_samples_that_a_threshold_does_not_judge_are_counted(surd: Surd, tmp_path: Path) -> None:
    rows = [sample(n) | {"aesthetic": 5.0 if n == 0 else None, "nsfw": 0.1} for n in range(3)]
    lacking = sample(3) | {"simple_prompt": None, "cos_simple": None}  # a reason of its own
    lacking |= {"aesthetic": None, "cos_complex": None, "complex_prompt": None}
    folder = make_workspace(tmp_path / "w", [[*rows, lacking]]).location
    assert "not judged" not in surd("filter", folder, *LOOSE).out
    told = "not judged, since they have no such value: 2 by min_aesthetic (score.aesthetic_head"
    ran = surd("filter", folder, "--min-aesthetic", "4", "--dry-run")
    assert told in ran.out and "nothing was written" in ran.out
    assert surd("filter", folder, "--min-aesthetic", "4", "--json").json["not_judged"] == {
        "min_aesthetic": 2
    }


@pytest.mark.parametrize(
    ("setting", "lacking", "why"),
    [
        ("max_nsfw_level=none", {"nsfw_level": None}, "their source states no level"),
        ("max_nsfw_level=soft", {"nsfw_level": None}, "their source states no level"),
        ("languages=[en]", {"language": None}, "prompts.language is false"),
        ("max_per_author=2", {"author": None}, "their source names no author"),
    ],
)
@pytest.mark.parametrize("judged", [0, 1])
def test_samples_without_what_a_setting_looks_at_are_counted(
    surd: Surd, tmp_path: Path, setting: str, lacking: dict[str, None], why: str, judged: int
) -> None:
    rows = [sample(n) | {"language": "en"} | lacking for n in range(2)]
    rows += [sample(2 + n) | {"language": "en"} for n in range(judged)]
    no_prompt = sample(9) | {"simple_prompt": None, "cos_simple": None, "nsfw_level": "none"}
    recipe = RECIPE | {"prompts": {"language": False}}
    folder = make_workspace(tmp_path / "w", [[*rows, no_prompt]], recipe=recipe).location
    name = setting.partition("=")[0]
    ran = surd("filter", folder, *LOOSE, "--set", f"filter.{setting}", "--dry-run")
    assert f"not judged, since they have no such value: 2 by {name} ({why})\n" in ran.out
    told = surd("filter", folder, *LOOSE, "--set", f"filter.{setting}", "--json").json
    assert told["not_judged"] == {name: 2}


def test_a_default_that_judges_nobody_is_told_in_json_alone(surd: Surd, tmp_path: Path) -> None:
    folder = make_workspace(tmp_path / "w", [[sample(0) | {"nsfw_level": None}]]).location
    assert "not judged" not in surd("filter", folder, *LOOSE).out
    assert surd("filter", folder, "--json").json["not_judged"] == {"max_nsfw_level": 1}
    mixed = [sample(0), sample(1) | {"nsfw_level": None}]
    folder = make_workspace(tmp_path / "mixed", [mixed]).location
    assert "1 by max_nsfw_level (their source" in surd("filter", folder, *LOOSE).out


def test_a_build_names_only_thresholds_that_were_set(
    surd: Surd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [sample(n) | {"aesthetic": None, "nsfw": 0.1 if n == 3 else None} for n in range(4)]
    folder = make_workspace(tmp_path / "w", [rows]).location
    assert "4 by min_aesthetic" in surd("filter", folder, *LOOSE, "--min-aesthetic", "p10").out
    assert "3 by max_nsfw" in surd("filter", folder).out
    judged = StageSummary("filter", 4, {"keep": 4}, 1, 0, {}, 0.0)
    monkeypatch.setattr("surd.build.run.build", lambda *_: iter([judged]))
    out = surd("build", "-o", folder).out
    assert "4 by min_aesthetic (score.aesthetic_head is null)\n" in out and "nsfw" not in out


def test_a_dry_run_that_keeps_nothing_says_that_it_wrote_nothing(
    surd: Surd, workspace: Workspace
) -> None:
    ran = surd("filter", workspace.location, "--min-side", "9999", "--dry-run")
    assert "no samples are left" in ran.out and "nothing was written" in ran.out


def test_after_an_edit_the_next_command_is_the_one_that_scores_edits(
    surd: Surd, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, plan = workspace.location, needs.plan
    monkeypatch.setattr(  # these parts were made by no stage
        needs, "plan", lambda w, stage, params: plan(w, stage, params) if stage.edited else []
    )
    assert f"next: surd score {folder}, or" in surd("filter", folder, *LOOSE).out
    surd("edit", folder, sample(0)["id"], "--simple", "a night")
    assert f"next: surd edit {folder} --apply, or" in surd("filter", folder).out


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
