"""Stages side by side: a part goes on while others are behind it; all is as one after another."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest
from support_engines import SCHEMA, STAGE, Shout, write_samples

from surd.engine.local import LocalEngine
from surd.engine.overlap import Step, overlap
from surd.engine.plan import PartState, plan
from surd.engine.stages import compute_jobs, run_stage
from surd.engine.work import Results
from surd.errors import ModelError
from surd.stages.base import Batch, Stage, StageFunction, StageParams, TableFunction, WholeTable
from surd.store.workspace import Workspace, part_name

PARTS = 3
Diary = list[str]
Wrong = Callable[[], None]


def a_stage(diary: Diary, name: str, of: str, wrong: dict[str, Wrong] | None = None) -> Stage:
    """Adds the stage's name to every word of another group, and a line a part to the diary."""
    column = "prompt" if of == "samples" else "loud"

    def open_(params: Shout) -> StageFunction:
        def function(batches: Iterable[Batch]) -> Iterator[pa.Table]:
            for batch in batches:
                words = batch.table[column].to_pylist()
                if "row 0" in words[0]:
                    diary.append(f"{name} {words[0][5]}")
                    (wrong or {}).get(diary[-1], lambda: None)()
                said = pa.array([f"{word} {name}" for word in words])
                yield pa.table([batch.table["id"], said], schema=SCHEMA)

        return function

    return replace(STAGE, name=name, group=name, reads={of: (column,)}, open=open_)


def a_table_stage(diary: Diary, name: str, of: str) -> Stage:
    def open_(params: Shout) -> TableFunction:
        def function(whole: WholeTable) -> Iterator[pa.Table]:
            diary.append(name)
            yield from whole(lambda table: table)

        return function

    return replace(STAGE, name=name, group=name, reads={of: ("loud",)}, open=open_, scope="table")


def three_stages(diary: Diary) -> tuple[Stage, ...]:
    """The last looks at the whole table."""
    first, second = a_stage(diary, "a", "samples"), a_stage(diary, "b", "a")
    return first, second, a_table_stage(diary, "c", "b")


@pytest.fixture
def diary() -> Diary:
    return []


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    made = Workspace(tmp_path / "w")
    write_samples(made, PARTS)
    return made


def run(workspace: Workspace, *stages: Stage) -> dict[str, Step]:
    """Stage -> its step, in the order in which they were done."""

    def compute(step: Step, beside: Sequence[StageParams]) -> Results:
        engine, tick = LocalEngine(), lambda counts: None
        return compute_jobs(engine, workspace, step.stage, step.params, step.jobs, tick)

    def is_due(state: PartState, stage: Stage) -> bool:
        return state.state not in ("fresh", "waiting")

    chosen = [(stage, Shout()) for stage in stages]
    return {step.stage.name: step for step in overlap(workspace, chosen, is_due, compute)}


def written(workspace: Workspace, *stages: Stage) -> list[bytes]:
    return [
        workspace.storage.read_bytes(part_name(stage.group, part))
        for stage in stages
        for part in workspace.parts(stage.group)
    ]


def test_a_part_goes_on_to_the_next_stage_while_the_others_are_behind_it(
    workspace: Workspace, diary: Diary
) -> None:
    run(workspace, a_stage(diary, "a", "samples"), a_stage(diary, "b", "a"))
    assert sorted(diary) == [f"{name} {part}" for name in "ab" for part in range(PARTS)]
    assert diary.index("b 0") < diary.index("a 2")
    assert diary.index("b 1") > diary.index("a 1")


def test_the_parts_are_those_of_one_stage_after_the_other(
    workspace: Workspace, diary: Diary, tmp_path: Path
) -> None:
    stages = (
        a_stage(diary, "a", "samples"),
        a_stage(diary, "b", "a"),
        a_table_stage(diary, "c", "b"),
    )
    run(workspace, *stages)
    apart = Workspace(tmp_path / "apart")
    write_samples(apart, PARTS)
    for stage in stages:
        jobs = plan(apart, stage, Shout())
        assert len(list(run_stage(LocalEngine(), apart, stage, Shout(), jobs, lambda c: None))) == 3
    assert written(workspace, *stages) == written(apart, *stages)
    assert len(written(workspace, *stages)) == 3 * PARTS


def test_a_stage_of_the_whole_table_waits_for_all_parts(workspace: Workspace, diary: Diary) -> None:
    stages = (
        a_stage(diary, "a", "samples"),
        a_stage(diary, "b", "a"),
        a_table_stage(diary, "c", "b"),
    )
    assert list(run(workspace, *stages)) == ["a", "b", "c"]
    assert diary[-1] == "c" and diary.count("c") == 1


def test_what_is_done_is_told_in_the_order_of_the_stages(
    workspace: Workspace, diary: Diary
) -> None:
    fresh = a_stage(diary, "b", "samples")
    run(workspace, fresh)
    steps = run(workspace, a_stage(diary, "a", "samples"), fresh)
    assert [(name, step.computed, step.fresh) for name, step in steps.items()] == [
        ("a", PARTS, 0),
        ("b", 0, PARTS),
    ]


def test_the_seconds_of_a_stage_end_with_its_last_part(
    workspace: Workspace, diary: Diary, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("surd.engine.overlap.time.monotonic", lambda: now[0])

    def last() -> None:
        now[0] = 1000.0

    steps = run(workspace, a_stage(diary, "a", "samples"), a_stage(diary, "b", "a", {"b 2": last}))
    assert {name: step.seconds for name, step in steps.items()} == {"a": 0, "b": 1000}


def test_a_part_that_fails_keeps_only_itself_from_the_next_stage(
    workspace: Workspace, diary: Diary
) -> None:
    def fail() -> None:
        raise ValueError("no")

    stages = a_stage(diary, "a", "samples", {"a 1": fail}), a_stage(diary, "b", "a")
    steps = run(workspace, *stages)
    assert steps["a"].failed == {1: "ValueError: no"}
    assert steps["b"].failed == {1: "a is missing"}
    assert (steps["a"].computed, steps["b"].computed) == (2, 2)
    assert workspace.parts("b") == [0, 2]


def test_a_part_that_comes_out_the_same_makes_nothing_of_the_next_stage_stale(
    workspace: Workspace, diary: Diary
) -> None:
    stages = a_stage(diary, "a", "samples"), a_stage(diary, "b", "a")
    run(workspace, *stages)
    Path(workspace.storage.path(part_name("a", 1))).unlink()
    diary.clear()
    steps = run(workspace, *stages)
    assert diary == ["a 1"]
    assert (steps["a"].computed, steps["a"].fresh) == (1, 2)
    assert (steps["b"].computed, steps["b"].fresh) == (0, 3)


def test_what_ends_one_stage_ends_all_and_finished_parts_stay(
    workspace: Workspace, diary: Diary
) -> None:
    def no_model() -> None:
        raise ModelError("b.model: there is none")

    stages = a_stage(diary, "a", "samples"), a_stage(diary, "b", "a", {"b 1": no_model})
    with pytest.raises(ModelError, match="there is none"):
        run(workspace, *stages)
    assert workspace.parts("b") == [0]
    assert 1 in workspace.parts("a")
    diary.clear()
    run(workspace, a_stage(diary, "a", "samples"), a_stage(diary, "b", "a"))
    assert not {"a 0", "a 1", "b 0"} & set(diary), "they were there"
