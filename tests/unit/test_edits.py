"""Simple prompts written by hand: nothing is lost, everything can be undone, at any stage."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from support_publish import make_workspace, sample, samples

from surd.dataset.simple_prompts import simple_prompts
from surd.errors import SurdError, WorkspaceError
from surd.store import edits
from surd.store.ids import whole_ids
from surd.store.workspace import Workspace

Surd = Callable[..., Any]


def id_of(number: int) -> str:
    return str(sample(number)["id"])


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Six samples in two parts."""
    rows = samples(6)
    return make_workspace(tmp_path / "w", [rows[:4], rows[4:]])


@pytest.fixture(params=["disk", "memory"])
def any_workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    where = tmp_path / "w" if request.param == "disk" else f"memory://{tmp_path.name}"
    return make_workspace(where, [samples(4)])


def prompts(workspace: Workspace) -> list[str | None]:
    return [text for _, text in simple_prompts(workspace, edits.read(workspace))]


def test_edits_are_undone_one_by_one_and_stay_known(
    any_workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURD_AUTHOR", "Ann\n")
    one, two = id_of(1), id_of(2)
    edits.write(any_workspace, {one: " a\ncup ", two: "a jug"}, "first")
    monkeypatch.setenv("SURD_AUTHOR", "Bob")
    edits.write(any_workspace, {one: "a red cup"}, "second")
    assert edits.current(any_workspace) == {one: "a red cup", two: "a jug"}
    assert edits.undo(any_workspace, [one]).keys() == {one}
    assert edits.current(any_workspace) == {one: "a cup", two: "a jug"}
    assert edits.undo(any_workspace, [one]).keys() == {one}
    assert edits.current(any_workspace) == {two: "a jug"}
    assert edits.undo(any_workspace, [one]) == {}
    assert edits.undo(any_workspace).keys() == {two}, "what is left of the first"
    assert edits.current(any_workspace) == {} and edits.undo(any_workspace) == {}
    first, second = edits.history(any_workspace, one)
    assert (first.by, first.text, first.what) == ("Ann", "a cup", "first")
    assert (second.by, second.text) == ("Bob", "a red cup")
    assert first.undone and second.undone and second.undone.by == "Bob"
    assert first.at.startswith("20")


def test_an_edit_back_to_the_proposal_can_be_undone(workspace: Workspace) -> None:
    edits.write(workspace, {id_of(1): "a cup"}, "written")
    edits.write(workspace, {id_of(1): None}, "back")
    assert edits.current(workspace) == {}
    edits.undo(workspace, [id_of(1)])
    assert edits.current(workspace) == {id_of(1): "a cup"}


def test_many_may_edit_at_once_and_none_is_lost(workspace: Workspace) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: edits.write(workspace, {id_of(n): f"cup {n}"}, ""), range(60)))
    assert edits.current(workspace) == {id_of(n): f"cup {n}" for n in range(60)}


def test_an_edit_made_by_a_clock_that_is_behind_still_comes_last(workspace: Workspace) -> None:
    name = edits.write(workspace, {id_of(1): "earlier"}, "")
    folder = Path(workspace.location, edits.GROUP)
    (folder / f"{name}.json").rename(folder / f"29991231T235959999998Z-{name[-8:]}.json")
    edits.write(workspace, {id_of(1): "later"}, "")
    assert edits.current(workspace) == {id_of(1): "later"}


@pytest.mark.parametrize("text", ["", " \n ", "a\x1b[31m cup", "\ud800", "x" * 10_001])
def test_what_is_no_prompt_is_never_written(workspace: Workspace, text: str) -> None:
    with pytest.raises(SurdError, match="simple prompt"):
        edits.write(workspace, {id_of(0): "fine", id_of(1): text}, "")
    assert workspace.storage.names(edits.GROUP) == []


def test_foreign_files_are_no_edits_and_damaged_ones_are_named(workspace: Workspace) -> None:
    name = edits.write(workspace, {id_of(1): "a cup"}, "")
    folder = Path(workspace.location, edits.GROUP)
    for foreign in (".DS_Store", f".{name}.json.0a0a0a0a.tmp", "notes.json", f"{name}.json.bak"):
        (folder / foreign).touch()
    assert edits.current(workspace) == {id_of(1): "a cup"}
    for content in ("{", "[]", '{"simple": ["a"]}', '{"simple": {"0": 1}}'):
        damaged = f"20260101T000000000000Z-{abs(hash(content)) % 16**8:08x}.json"
        (folder / damaged).write_text(content)
        with pytest.raises(WorkspaceError, match=damaged):
            edits.read(workspace)
        (folder / damaged).unlink()


def test_ids_are_found_by_their_beginning(tmp_path: Path) -> None:
    rows = [sample(0) | {"id": id_} for id_ in ("ab" * 16, "ac" * 16)]
    workspace = make_workspace(tmp_path / "w", [rows[:1], rows[1:]])
    assert whole_ids(workspace, ["AB", "ac" * 16]) == {"AB": "ab" * 16, "ac" * 16: "ac" * 16}
    for typed, why in (("a", "several"), ("ff", "no sample"), ("", "not a sample"), ("x", "not a")):
        with pytest.raises(SurdError, match=why):
            whole_ids(workspace, [typed])


@pytest.mark.parametrize(
    ("without", "first"),
    [
        ((), "the red cup 1"),
        (("clip", "duplicates", "verdicts"), "a red cup 1"),
        (("prompts", "captions", "clip", "duplicates", "verdicts"), "the red cup 1"),
    ],
)
def test_prompts_are_edited_at_any_stage(
    surd: Surd, tmp_path: Path, without: tuple[str, ...], first: str
) -> None:
    rows = [*samples(2), sample(2) | {"simple_prompt": None, "candidates": []}]
    workspace = make_workspace(tmp_path / "w", [rows], without=without)
    assert prompts(workspace)[1] == first
    ran = surd("edit", workspace.location, id_of(1), "--simple", "a cup")
    assert ran.code == 0 and "1 sample edited" in ran.out, ran.err
    assert prompts(workspace)[1] == "a cup"
    ran = surd("edit", workspace.location, "--all", "--trigger", "sks", "--json")
    assert (ran.json["changed"], ran.json["without"]) == (2, 1)
    again = surd("edit", workspace.location, "--all", "--trigger", "sks", "--json")
    assert again.json["changed"] == 0
    assert prompts(workspace)[1] == "sks, a cup"
    assert surd("edit", workspace.location, "--undo").code == 0
    assert prompts(workspace)[1] == "a cup"


def test_an_undone_edit_gives_back_the_proposal_although_clip_still_has_the_edit(
    tmp_path: Path,
) -> None:
    said = {"candidates": [{"text": t, "raw": t, "how": "beam"} for t in ("a cup", "a jug")]}
    row = sample(0) | said | {"candidate_scores": [0.2, 0.3], "simple_prompt": "written by hand"}
    workspace = make_workspace(tmp_path / "w", [[row]])
    edits.write(workspace, {id_of(0): "written by hand"}, "")
    edits.undo(workspace)
    assert prompts(workspace) == ["a jug"]


def test_the_command_edits_shows_and_takes_back(
    surd: Surd, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SURD_AUTHOR", "Ann")
    folder = workspace.location
    ran = surd("edit", folder, "--replace", "red", "blue", "--containing", "CUP 1", "--dry-run")
    assert "+ the blue cup 1" in ran.out and "nothing was written" in ran.out
    assert edits.current(workspace) == {}
    ran = surd("edit", folder, "--replace-word", "re", "blue", "--dry-run")
    assert ran.out.startswith("0 samples would be edited")
    surd("edit", folder, "--replace", "the red cup 1", "")
    assert edits.current(workspace) == {}, "no prompt is emptied"
    assert surd("edit", folder, id_of(1), "--candidate", "1").code == 0
    assert prompts(workspace)[1] == "a red cup 1"
    ran = surd("edit", folder, id_of(1), id_of(2), "--candidate", "2")
    assert ran.code == 2 and f"sample {id_of(1)} has candidates 1 to 1" in ran.err
    assert surd("edit", folder, "--all", "--suffix", ", best quality").code == 0
    tags = surd("edit", folder, "--tags", "--json").json["tags"]
    assert tags[0] == {"tag": "best quality", "samples": 6}
    told = surd("edit", folder, id_of(1), "--history").out
    assert "Ann, candidate 1" in told and "a red cup 1, best quality" in told
    assert surd("edit", folder, id_of(1), "--undo").code == 0
    assert prompts(workspace)[1:3] == ["a red cup 1", "the red cup 2, best quality"]
    assert "6 samples, 1 of them undone" in surd("edit", folder, "--history").out
    assert surd("edit", folder, id_of(1), "--reset").code == 0
    assert prompts(workspace)[1] == "a red cup 1", "the first candidate; they have no scores"


def test_samples_without_a_simple_prompt_yet_are_counted(surd: Surd, tmp_path: Path) -> None:
    later = ("captions", "clip", "duplicates", "verdicts")
    workspace = make_workspace(tmp_path / "w", [samples(4, simple_prompt=None)], without=later)
    ran = surd("edit", workspace.location, "--containing", "cup", "--prefix", "a", "--dry-run")
    assert ran.out.startswith("0 samples would be edited; 4 without a simple prompt yet")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ((), "nothing to do; give one of --simple"),
        (("--simple", "a cup"), "--simple: name the samples by their ids"),
        (("--prefix", "a"), "of which samples? give ids, --containing TEXT, or --all"),
        (("--prefix", " ", "--all"), "--prefix: is empty"),
        (("--prefix", "a", "--suffix", "b"), "--prefix and --suffix: give one at a time"),
        (("ffff", "--simple", "a"), "no sample has the id 'ffff'"),
        (("0", "--simple", "a"), "several ids begin so"),
        ((id_of(1), "--simple", ""), "an empty simple prompt"),
        (("--rename-tag", "a", ""), "take --remove-tag"),
        ((id_of(1), "--all", "--trigger", "x"), "--all and ids: give one"),
    ],
)
def test_what_cannot_be_done_is_one_line_and_edits_nothing(
    surd: Surd, workspace: Workspace, arguments: tuple[str, ...], why: str
) -> None:
    ran = surd("edit", workspace.location, *arguments)
    assert ran.code == 2 and why in ran.err and ran.err.count("\n") == 1, ran.err
    assert edits.current(workspace) == {}


def test_nothing_is_published_or_embedded_before_edits_are_scored(
    surd: Surd, workspace: Workspace
) -> None:
    folder = workspace.location
    loose = ("--set", "filter.min_side=1", "--clip-threshold", "0.2")
    assert surd("filter", folder, *loose).code == 0
    assert surd("publish", folder).code == 0
    edits.write(workspace, {id_of(5): "a cup"}, "")
    assert edits.unscored(workspace) == [1], "the other part has no edit"
    for command in ("publish", "embed-llm"):
        ran = surd(command, folder)
        assert ran.code == 2 and f"run: surd edit {folder} --apply" in ran.err
    why = surd("status", folder, "--json").json["groups"]["clip"]["parts"][1]["why"]
    assert "edits changed" in why
    edits.undo(workspace)
    assert edits.unscored(workspace) == []
    assert surd("publish", folder).code == 0


def test_a_text_that_cannot_be_edited_leaves_the_others_edited(surd: Surd, tmp_path: Path) -> None:
    odd = ("a cup\x1b[31m", "x" * 9_998, "soft\xadhyphen \u202e turned", "a  wide   cup")
    rows = [sample(n) | {"simple_prompt": text} for n, text in enumerate(odd)]
    workspace = make_workspace(tmp_path / "w", [rows])
    done = surd("edit", workspace.location, "--all", "--trigger", "sks", "--json").json
    assert (done["changed"], done["refused"]) == (2, 2)
    assert prompts(workspace)[2:] == ["sks, soft\xadhyphen \u202e turned", "sks, a wide cup"]
    ran = surd("edit", workspace.location, "--all", "--trigger", "sks")
    assert "2 left as they are, since they would be too long" in ran.out
    assert "\u202e" not in ran.out and "\x1b" not in ran.out


def test_the_file_of_an_edit_is_whole_and_readable(workspace: Workspace) -> None:
    name = edits.write(workspace, {id_of(1): "a naïve cup"}, "written")
    said = json.loads(Path(workspace.location, edits.GROUP, f"{name}.json").read_text("utf-8"))
    assert said["simple"] == {id_of(1): "a naïve cup"} and said["what"] == "written"
    assert said["by"] and said["at"]


@pytest.mark.parametrize("time", ["20261301T000000000000Z", "99991231T235959999999Z"])
def test_an_edit_of_no_time_is_told_before_another_follows_it(
    workspace: Workspace, time: str
) -> None:
    edits.write(workspace, {id_of(1): "a cup"}, "first")
    (first,) = Path(workspace.location, "edits").iterdir()
    odd = first.rename(first.with_name(f"{time}-00000000.json"))
    with pytest.raises(WorkspaceError, match=f"{odd.name}.*tells no time"):
        edits.write(workspace, {id_of(1): "a jug"}, "second")


@pytest.mark.parametrize(
    "simple", [{"x": "a cup"}, {"0" * 32: "a\x1b[2J cup"}, {"0" * 32: "\ud800"}, {"0" * 32: ""}]
)
def test_an_edit_with_what_is_no_prompt_is_damaged(
    workspace: Workspace, simple: dict[str, str]
) -> None:
    folder = Path(workspace.location, "edits")
    folder.mkdir()
    name = "20260101T000000000000Z-00000000.json"
    (folder / name).write_text(json.dumps({"simple": simple}))
    with pytest.raises(WorkspaceError, match=f"{name}: damaged"):
        edits.read(workspace)
