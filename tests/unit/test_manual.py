"""Decisions by hand: files that nothing leaves by halves, and verdicts and datasets that follow."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support_publish import make_workspace, sample, samples

from surd.build.run import open_recipe
from surd.engine.plan import plan
from surd.errors import SurdError
from surd.recipe.pipeline import params_of, stage_named
from surd.store import edits, manual
from surd.store.workspace import Workspace

Surd = Callable[..., Any]
LOOSE = ("--set", "filter.min_side=1", "--clip-threshold", "0.2")
BAD = 3


def id_of(number: int) -> str:
    return str(sample(number)["id"])


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Six samples in two parts; the filters object to one."""
    rows = samples(6, cos_simple=lambda n: 0.1 if n == BAD else 0.3)
    return make_workspace(tmp_path / "w", [rows[:4], rows[4:]])


def published(workspace: Workspace) -> set[str]:
    files = sorted(Path(workspace.location, "dataset").glob("*.parquet"))
    return {id_ for file in files for id_ in pq.read_table(file)["id"].to_pylist()}


def test_a_decision_is_read_back_changed_and_taken_back(workspace: Workspace) -> None:
    assert manual.read(workspace) == {}
    manual.decide(workspace, id_of(1), "keep")
    manual.decide(workspace, id_of(2), "drop")
    assert manual.read(workspace) == {id_of(1): "keep", id_of(2): "drop"}
    manual.decide(workspace, id_of(1), "drop")
    manual.decide(workspace, id_of(2), None)
    manual.decide(workspace, id_of(3), None)
    assert manual.read(workspace) == {id_of(1): "drop"}


def test_what_is_no_id_never_becomes_a_file(workspace: Workspace) -> None:
    for name in ("../../etc/passwd", "", id_of(1).upper() + "Z", id_of(1) + "\n"):
        with pytest.raises(SurdError, match="not a sample id"):
            manual.decide(workspace, name, "drop")
    assert workspace.storage.names(manual.GROUP) == []


def test_foreign_and_half_written_files_are_no_decisions(workspace: Workspace) -> None:
    manual.decide(workspace, id_of(1), "keep")
    folder = Path(workspace.location, manual.GROUP)
    for name in (".DS_Store", f".{id_of(2)}.keep.json.0a0a0a0a.tmp", f"{id_of(3)}.maybe.json"):
        (folder / name).touch()
    assert manual.read(workspace) == {id_of(1): "keep"}


def test_a_kill_between_the_two_steps_of_a_change_leaves_a_drop(workspace: Workspace) -> None:
    manual.decide(workspace, id_of(1), "keep")
    (Path(workspace.location, manual.GROUP) / f"{id_of(1)}.drop.json").touch()
    assert manual.read(workspace) == {id_of(1): "drop"}
    manual.decide(workspace, id_of(1), "keep")
    assert manual.read(workspace) == {id_of(1): "keep"}


def test_many_may_decide_at_once_and_none_is_lost(workspace: Workspace) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: manual.decide(workspace, id_of(n), "drop"), range(200)))
    assert len(manual.read(workspace)) == 200


def test_a_keep_in_vain_is_told_and_is_no_reason_for_dropping(surd: Surd, tmp_path: Path) -> None:
    rows = [sample(0), sample(1) | {"simple_prompt": None}, sample(2)]
    folder = make_workspace(tmp_path / "w", [rows]).location
    ran = surd("filter", folder, *LOOSE, "--keep", id_of(1), "--keep", id_of(2))
    assert ran.code == 0
    assert f"{id_of(1)}: cannot be kept: no simple prompt; the decision" in ran.err
    assert id_of(2) not in ran.err and "manual" not in ran.out
    told = surd("filter", folder, "--json").json
    assert [one["reason"] for one in told["dropped"]] == ["no_caption"]
    assert told["dropped"][0]["only"] == 1 and told["kept"] == 2
    verdict = "verdict: dropped: no_caption; the decision to keep it counts once that has changed\n"
    assert verdict in surd("inspect", folder, id_of(1)).out
    assert surd("publish", folder).code == 0
    said = json.loads(Path(folder, "dataset", "surd-dataset.json").read_text("utf-8"))
    assert said["statistics"]["reasons"] == {"no_caption": {"samples": 1, "alone": 1}}


def test_decisions_are_taken_before_there_are_scores_and_count_once_there_are(
    surd: Surd, tmp_path: Path
) -> None:
    later = ("prompts", "captions", "clip", "duplicates", "verdicts")
    workspace = make_workspace(tmp_path / "w", [samples(4)], without=later)
    folder = workspace.location
    ran = surd("filter", folder, "--drop", id_of(1), "--keep", id_of(2), "--dry-run")
    assert "nothing was written" in ran.out and manual.read(workspace) == {}
    ran = surd("filter", folder, "--drop", id_of(1), "--keep", id_of(2))
    assert ran.code == 0 and ran.err == ""
    assert ran.out == (
        f"2 decisions by hand; they count once the samples are judged; run: surd prompts {folder}\n"
    )
    assert manual.read(workspace) == {id_of(1): "drop", id_of(2): "keep"}
    ran = surd("filter", folder, "--undo", id_of(2), "--json")
    assert ran.json == {"dry_run": False, "decided": 1, "run": f"surd prompts {folder}"}
    ran = surd("filter", folder, "--drop", id_of(3), "--min-side", "64")
    assert ran.code == 2 and "prompts is missing; first run: surd prompts" in ran.err
    assert manual.read(workspace) == {id_of(1): "drop"}, "what is refused changes nothing"


def test_the_published_dataset_follows(surd: Surd, workspace: Workspace) -> None:
    folder = workspace.location
    assert surd("filter", folder, *LOOSE).code == 0
    assert surd("publish", folder).code == 0
    everything = {id_of(n) for n in range(6)}
    assert published(workspace) == everything - {id_of(BAD)}

    ran = surd("filter", folder, "--drop", id_of(0), "--drop", id_of(5), "--keep", id_of(BAD))
    assert ran.code == 0, ran.err
    assert "1 of them by hand" in ran.out and "1 newly kept, 2 newly dropped" in ran.out
    assert surd("publish", folder).code == 0
    assert published(workspace) == everything - {id_of(0), id_of(5)}

    undo = [word for n in (0, 5, BAD) for word in ("--undo", id_of(n))]
    assert surd("filter", folder, *undo).code == 0
    assert surd("publish", folder).code == 0
    assert published(workspace) == everything - {id_of(BAD)}


def test_a_decision_makes_the_verdicts_stale_and_nothing_else(
    surd: Surd, workspace: Workspace
) -> None:
    folder = workspace.location

    def verdicts() -> list[tuple[str, str]]:
        recipe, stage = open_recipe(workspace), stage_named("filter")
        states = plan(workspace, stage, params_of(recipe, stage))
        return [(state.state, state.why) for state in states]

    surd("filter", folder, *LOOSE)
    assert verdicts() == [("fresh", "")] * 2
    manual.decide(workspace, id_of(0), "drop")
    assert verdicts() == [("stale", "manual changed")] * 2
    ran = surd("publish", folder)
    assert ran.code == 2 and f"run: surd filter {folder}" in ran.err
    surd("filter", folder)
    assert verdicts() == [("fresh", "")] * 2
    digest = workspace.part_info("verdicts", 1)
    manual.decide(workspace, id_of(0), None)
    assert verdicts() == [("stale", "manual changed")] * 2
    surd("filter", folder)
    now = workspace.part_info("verdicts", 1)
    assert digest and now and now.digest == digest.digest  # nothing follows from that part


def test_a_dry_run_counts_and_writes_nothing(surd: Surd, workspace: Workspace) -> None:
    surd("filter", workspace.location, *LOOSE)
    ran = surd("filter", workspace.location, "--keep", id_of(BAD), "--dry-run", "--json")
    assert ran.json["kept"] == 6 and ran.json["newly_kept"] == 1
    assert manual.read(workspace) == {}


def test_an_id_that_is_not_there_is_one_line_and_decides_nothing(
    surd: Surd, workspace: Workspace
) -> None:
    ran = surd("filter", workspace.location, "--keep", id_of(0), "--drop", "f" * 32)
    assert ran.code == 2 and "no sample has the id" in ran.err
    assert manual.read(workspace) == {}


def test_decisions_live_in_an_object_store_too() -> None:
    workspace = make_workspace("memory://by-hand", [samples(2)])
    manual.decide(workspace, id_of(0), "keep")
    manual.decide(workspace, id_of(0), "drop")
    assert manual.read(workspace) == {id_of(0): "drop"}
    manual.decide(workspace, id_of(0), None)
    assert manual.read(workspace) == {}


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (("--keep", "{id}", "--drop", "{id}"), "give one of --keep, --drop and --undo"),
        (("--suggest", "--keep", "{id}"), "--suggest decides nothing"),
    ],
)
def test_decisions_that_contradict_or_would_be_lost_are_refused(
    surd: Any, tmp_path: Path, options: tuple[str, ...], why: str
) -> None:
    make_workspace(tmp_path, [samples(2)])
    ran = surd("filter", tmp_path, *(o.format(id=sample(0)["id"]) for o in options))
    assert ran.code == 2 and why in ran.err
    assert manual.read(Workspace(tmp_path)) == {}


def test_status_tells_of_decisions_and_edits_and_each_thing_once(
    surd: Surd, tmp_path: Path
) -> None:
    later = ("captions", "clip", "duplicates", "verdicts")
    rows = samples(12)
    workspace = make_workspace(tmp_path / "w", [[row] for row in rows], without=later)
    folder = workspace.location
    assert "by hand" not in surd("status", folder).out
    manual.decide(workspace, id_of(1), "drop")
    edits.write(workspace, {id_of(2): "a", id_of(3): "b"}, "")
    told = surd("status", folder).out
    assert "by hand: 1 decision, 2 edits\n" in told
    assert "verdicts: 12 waiting\n  parts 0-11 waiting: clip is missing\n" in told
    assert surd("status", folder, "--json").json["by_hand"] == {"decisions": 1, "edits": 2}
