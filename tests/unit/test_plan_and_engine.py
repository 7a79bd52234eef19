"""What is due and why, and the local engine that computes it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from surd.engine.parts import PartResult
from surd.engine.plan import PartState, plan, plan_all
from surd.engine.select import LocalEngine
from surd.engine.stages import run_stage
from surd.errors import SurdError, WorkspaceError
from surd.params import Params
from surd.recipe.pipeline import stage_named
from surd.stages.base import (
    Batch,
    Stage,
    StageFunction,
    part_by_part,
    part_fingerprint,
    settings_fingerprint,
)
from surd.store.schema import SAMPLES
from surd.store.workspace import Workspace, part_name


class Shout(Params):
    mark: str = "!"


SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("loud", pa.string())])


def ignore(counts: Mapping[str, int]) -> None:
    """No progress is shown."""


def loud(table: pa.Table, mark: str = "!") -> pa.Table:
    rows = zip(table["id"].to_pylist(), table["prompt"].to_pylist(), strict=True)
    return pa.Table.from_pylist(
        [
            {"id": id_, "loud": None if prompt is None else prompt.upper() + mark}
            for id_, prompt in rows
        ],
        schema=SCHEMA,
    )


def open_shout(params: Shout) -> StageFunction:
    def function(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        for batch in batches:
            yield loud(batch.table, params.mark)

    return function


STAGE = Stage(
    name="shout",
    group="loud",
    version=1,
    reads={"samples": ("prompt",)},
    schema=SCHEMA,
    params=Shout,
    open=open_shout,
    batch_rows=3,
)


def doing(function: Callable[[Iterable[Batch]], Iterator[pa.Table]], **changed: Any) -> Stage:
    """The stage with another function."""
    return replace(STAGE, open=lambda params: function, **changed)


def write_samples(
    workspace: Workspace, part: int, prompts: Iterable[str | None], *, cut: int = 1000
) -> None:
    rows = [
        {"id": f"{part:016x}{n:016x}", "source": "test", "prompt": prompt}
        for n, prompt in enumerate(prompts)
    ]
    table = pa.Table.from_pylist(rows, schema=SAMPLES)
    with workspace.writing_part("samples", part, SAMPLES, 1000) as writer:
        for start in range(0, len(rows), cut):
            writer.write(table.slice(start, cut))
        writer.describe(fingerprint="by hand", settings="by hand", inputs={}, extra={})


def words(part: int, count: int = 7) -> list[str]:
    return [f"prompt {part}.{n}" for n in range(count)]


@pytest.fixture
def row_groups_of_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many rows as the stage's batches have."""
    monkeypatch.setattr("surd.store.part_writer.ROWS", STAGE.batch_rows)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Three parts of seven samples."""
    made = Workspace(tmp_path)
    for part in range(3):
        write_samples(made, part, words(part))
    return made


def states(workspace: Workspace, stage: Stage = STAGE, params: Params | None = None) -> list[str]:
    return [
        f"{s.state}: {s.why}" if s.why else s.state
        for s in plan(workspace, stage, params or Shout())
    ]


def run(
    workspace: Workspace, stage: Stage = STAGE, params: Params | None = None, **options: Any
) -> dict[int, PartResult]:
    """Compute what is due."""
    params = params or Shout()
    jobs = [s for s in plan(workspace, stage, params) if s.state not in ("fresh", "waiting")]
    results = list(run_stage(LocalEngine(), workspace, stage, params, jobs, ignore, **options))
    assert len(results) == len(jobs)
    return {result.part: result for result in results}


def loud_words(workspace: Workspace, part: int) -> list[str]:
    return workspace.read("loud", part)["loud"].to_pylist()


def expected(part: int, mark: str = "!") -> list[str]:
    return [word.upper() + mark for word in words(part)]


# Freshness


def test_what_is_missing_is_computed_and_then_fresh(workspace: Workspace) -> None:
    assert states(workspace) == ["missing"] * 3
    results = run(workspace)
    assert [results[part].error for part in range(3)] == [None] * 3
    assert states(workspace) == ["fresh"] * 3
    assert [loud_words(workspace, part) for part in range(3)] == [expected(p) for p in range(3)]


def test_rows_keep_the_ids_and_order_of_their_samples(workspace: Workspace) -> None:
    run(workspace)
    for part in range(3):
        ids = workspace.read("samples", part, ["id"])
        assert workspace.read("loud", part, ["id"]).equals(ids)


def test_a_workspace_without_samples_has_nothing_due(tmp_path: Path) -> None:
    assert plan(Workspace(tmp_path), STAGE, Shout()) == []
    assert list(run_stage(LocalEngine(), Workspace(tmp_path), STAGE, Shout(), [], ignore)) == []


def test_changed_settings_make_every_part_stale_and_say_so(workspace: Workspace) -> None:
    run(workspace)
    louder = Shout(mark="!!")
    assert states(workspace, params=louder) == ["stale: settings changed"] * 3
    run(workspace, params=louder)
    assert states(workspace, params=louder) == ["fresh"] * 3
    assert loud_words(workspace, 1) == expected(1, "!!")


def test_a_new_version_of_a_stage_makes_its_parts_stale(workspace: Workspace) -> None:
    run(workspace)
    assert states(workspace, replace(STAGE, version=2)) == ["stale: settings changed"] * 3


def test_a_changed_input_makes_its_part_alone_stale(workspace: Workspace) -> None:
    run(workspace)
    untouched = part_bytes(workspace, 0)
    write_samples(workspace, 1, ["other", *words(1)[1:]])
    assert states(workspace) == ["fresh", "stale: samples changed", "fresh"]
    assert set(run(workspace)) == {1}
    assert loud_words(workspace, 1)[0] == "OTHER!"
    assert part_bytes(workspace, 0) == untouched


def test_both_reasons_are_named(workspace: Workspace) -> None:
    run(workspace)
    write_samples(workspace, 2, words(2, 9))
    assert (
        states(workspace, params=Shout(mark="?"))[2] == "stale: settings changed, samples changed"
    )


def test_what_reads_a_stale_part_is_not_fresh(workspace: Workspace) -> None:
    echo = replace(STAGE, group="echo", reads={"loud": ("loud",)})
    whole = replace(STAGE, group="whole", reads={"echo": ("loud",)}, scope="table")
    stages = [(stage, Shout()) for stage in (STAGE, echo, whole)]
    for stage, params in stages:
        for state in plan(workspace, stage, params):
            _write_as_planned(workspace, stage, params, state)

    def told() -> list[list[str]]:
        planned = plan_all(workspace, stages)
        return [[f"{s.state} {s.why}".strip() for s in states] for _, states in planned]

    assert told() == [["fresh"] * 3] * 3
    write_samples(workspace, 1, words(1, 8))
    assert told() == [
        ["fresh", "stale samples changed", "fresh"],
        ["fresh", "waiting loud is stale", "fresh"],
        ["waiting loud is stale"] * 3,
    ]


def _write_as_planned(workspace: Workspace, stage: Stage, params: Params, state: PartState) -> None:
    """An empty part that is fresh."""
    assert state.inputs is not None
    settings = settings_fingerprint(stage, params)
    with workspace.writing_part(stage.group, state.part, SCHEMA, 1000) as writer:
        writer.write(SCHEMA.empty_table())
        fingerprint = part_fingerprint(settings, state.inputs)
        writer.describe(fingerprint=fingerprint, settings=settings, inputs=state.inputs, extra={})


def test_an_input_written_again_with_equal_rows_leaves_its_part_fresh(
    workspace: Workspace,
) -> None:
    run(workspace)
    write_samples(workspace, 1, words(1))
    assert states(workspace) == ["fresh"] * 3


def test_equal_rows_that_came_in_other_pieces_leave_their_part_fresh(workspace: Workspace) -> None:
    run(workspace)
    write_samples(workspace, 1, words(1), cut=2)
    assert states(workspace) == ["fresh"] * 3


def test_a_column_the_stage_does_not_read_counts_as_input_all_the_same(
    workspace: Workspace,
) -> None:
    run(workspace)
    table = workspace.read("samples", 0)
    authors = pa.array(["someone"] * table.num_rows)
    table = table.set_column(table.column_names.index("author"), SAMPLES.field("author"), authors)
    with workspace.writing_part("samples", 0, SAMPLES, 1000) as writer:
        writer.write(table)
        writer.describe(fingerprint="", settings="", inputs={}, extra={})
    assert states(workspace)[0] == "stale: samples changed"


def test_a_new_part_of_samples_is_missing_here(workspace: Workspace) -> None:
    run(workspace)
    write_samples(workspace, 3, words(3))
    assert states(workspace) == ["fresh", "fresh", "fresh", "missing"]


def test_a_damaged_part_is_computed_again(workspace: Workspace) -> None:
    run(workspace)
    before = part_bytes(workspace, 1)
    Path(workspace.location, part_name("loud", 1)).write_bytes(before[: len(before) // 2])
    found = states(workspace)
    assert (found[0], found[2]) == ("fresh", "fresh")
    assert found[1].startswith("damaged: ")
    assert set(run(workspace)) == {1}
    assert part_bytes(workspace, 1) == before


def test_a_part_waits_while_its_input_is_missing_or_damaged(workspace: Workspace) -> None:
    second = replace(STAGE, name="echo", group="echo", reads={"loud": ("loud",)})
    assert states(workspace, second) == ["waiting: loud is missing"] * 3
    run(workspace)
    assert states(workspace, second) == ["missing"] * 3
    Path(workspace.location, part_name("loud", 0)).write_bytes(b"PAR1")
    assert states(workspace, second) == ["waiting: loud is damaged", "missing", "missing"]


def test_a_stage_sees_the_columns_of_all_groups_it_reads(workspace: Workspace) -> None:
    run(workspace)
    seen = []

    def look(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        for batch in batches:
            seen.append((batch.table.column_names, batch.table.num_rows))
            yield batch.table.select(["id", "loud"])

    both = doing(look, name="look", group="look", reads={"samples": ("prompt",), "loud": ("loud",)})
    run(workspace, both)
    assert {tuple(names) for names, _ in seen} == {("id", "prompt", "loud")}
    assert [rows for _, rows in seen] == [3, 3, 1] * 3
    info = workspace.part_info("look", 0)
    assert info is not None
    assert set(info.inputs) == {"samples", "loud"}


def test_groups_whose_ids_differ_are_an_error_of_the_part(workspace: Workspace) -> None:
    run(workspace)
    schema = SCHEMA
    with workspace.writing_part("loud", 1, schema, 3) as writer:
        writer.write(workspace.read("loud", 0))
        writer.describe(fingerprint="", settings="", inputs={}, extra={})
    both = replace(STAGE, name="look", group="look", reads={"samples": ("prompt",), "loud": ()})
    results = run(workspace, both)
    assert results[0].error is None
    assert "its samples are not those of samples/part-00001.parquet" in str(results[1].error)
    assert results[2].error is None


# Pieces


def recut(*lengths: int) -> Callable[[Iterable[Batch]], Iterator[pa.Table]]:
    """A function that gives all rows of all parts in pieces of other lengths."""

    def function(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        whole = pa.concat_tables([loud(batch.table) for batch in batches])
        at = 0
        for length in (*lengths, whole.num_rows):
            yield whole.slice(at, length)
            at += length

    return function


@pytest.mark.parametrize("lengths", [(), (1,) * 21, (8, 8), (7, 7), (6, 9), (0, 5, 0, 13)])
def test_rows_land_in_their_parts_however_the_function_cuts_them(
    workspace: Workspace, lengths: tuple[int, ...]
) -> None:
    run(workspace)
    right = [part_bytes(workspace, part) for part in range(3)]
    for part in range(3):
        workspace.storage.delete(part_name("loud", part))
    run(workspace, doing(recut(*lengths)))
    assert [loud_words(workspace, part) for part in range(3)] == [expected(p) for p in range(3)]
    assert [part_bytes(workspace, part) for part in range(3)] == right


def test_parts_without_rows_are_written_too(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for part, count in enumerate((0, 2, 0, 0, 1, 0)):
        write_samples(workspace, part, words(part, count))
    run(workspace)
    assert [workspace.read("loud", part).num_rows for part in range(6)] == [0, 2, 0, 0, 1, 0]
    assert states(workspace) == ["fresh"] * 6


def test_a_function_may_read_ahead_of_what_it_gives(workspace: Workspace) -> None:
    def ahead(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        held: list[pa.Table] = []
        for batch in batches:
            held.append(loud(batch.table))
            if len(held) > 4:
                yield held.pop(0)
        yield from held

    run(workspace, doing(ahead))
    assert [loud_words(workspace, part) for part in range(3)] == [expected(p) for p in range(3)]


def test_counts_by_status_are_told_and_kept(workspace: Workspace) -> None:
    schema = pa.schema([pa.field("id", pa.string()), pa.field("status", pa.string())])

    def judge(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        for batch in batches:
            status = [
                "ok" if p.endswith(("0", "1")) else "dull"
                for p in batch.table["prompt"].to_pylist()
            ]
            yield pa.table({"id": batch.table["id"], "status": status}, schema=schema)

    stage = doing(judge, schema=schema)
    told: Counter[str] = Counter()
    jobs = plan(workspace, stage, Shout())
    results = list(run_stage(LocalEngine(), workspace, stage, Shout(), jobs, told.update))
    assert [dict(result.counts) for result in results] == [{"ok": 2, "dull": 5}] * 3
    assert told == {"ok": 6, "dull": 15}
    info = workspace.part_info("loud", 0)
    assert info is not None
    assert info.extra["counts"] == {"ok": 2, "dull": 5}


# Failure


def failing_on(word: str, error: Exception) -> Stage:
    def function(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        for batch in batches:
            if any(word in prompt for prompt in batch.table["prompt"].to_pylist()):
                raise error
            yield loud(batch.table)

    return doing(function)


@pytest.mark.parametrize("word", ["prompt 0.0", "prompt 1.4", "prompt 2.6"])
def test_a_part_whose_rows_break_the_stage_fails_alone_and_is_mended_later(
    workspace: Workspace, word: str
) -> None:
    bad = int(word[7])
    good = [part for part in range(3) if part != bad]
    results = run(workspace, failing_on(word, ValueError("bad row\nwith details")))
    assert results[bad].error == "ValueError: bad row"
    assert [results[part].error for part in good] == [None, None]
    assert states(workspace)[bad] == "failed: ValueError: bad row"
    assert [states(workspace)[part] for part in good] == ["fresh", "fresh"]
    assert workspace.part_info("loud", bad) is None
    assert set(run(workspace)) == {bad}
    assert states(workspace) == ["fresh"] * 3
    assert workspace.failure("loud", bad) is None
    assert loud_words(workspace, bad) == expected(bad)


def test_a_part_fails_alone_also_when_the_stage_reads_ahead(workspace: Workspace) -> None:
    def ahead(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        tables = [batch.table for batch in batches]
        if any("1.4" in prompt for table in tables for prompt in table["prompt"].to_pylist()):
            raise ValueError("somewhere ahead")
        yield from map(loud, tables)

    results = run(workspace, doing(ahead))
    assert {part: result.error for part, result in results.items()} == {
        0: None,
        1: "ValueError: somewhere ahead",
        2: None,
    }


def test_a_failed_part_keeps_the_rows_it_had(workspace: Workspace) -> None:
    run(workspace)
    write_samples(workspace, 1, ["poison", *words(1)])
    run(workspace, failing_on("poison", ValueError("no")))
    assert states(workspace) == ["fresh", "failed: ValueError: no", "fresh"]
    assert loud_words(workspace, 1) == expected(1)


def test_what_the_system_says_to_a_stage_is_no_error_of_the_disk(workspace: Workspace) -> None:
    results = run(workspace, failing_on("1.4", FileNotFoundError(2, "No such file", "model.bin")))
    assert results[0].error is None
    assert "model.bin" in str(results[1].error)


def test_an_error_that_the_user_must_mend_stops_the_run(workspace: Workspace) -> None:
    with pytest.raises(SurdError, match="no such model"):
        run(workspace, failing_on("1.4", SurdError("no such model")))
    assert states(workspace) == ["fresh", "missing", "missing"]


def test_a_full_disk_stops_the_run(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("surd.store.storage.fsync", full)
    with pytest.raises(WorkspaceError, match="No space left on device"):
        run(workspace)
    assert workspace.storage.names("loud") == []


def test_too_few_rows_are_an_error_of_that_part(workspace: Workspace) -> None:
    def forgetful(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        for batch in batches:
            table = loud(batch.table)
            yield table.slice(0, table.num_rows - ("PROMPT 2.6!" in table["loud"].to_pylist()))

    results = run(workspace, doing(forgetful))
    assert [results[part].error is None for part in range(3)] == [True, True, False]
    assert "shout returned fewer rows than it received" in str(results[2].error)


def test_too_few_rows_in_an_early_part_do_not_shift_rows_into_it(workspace: Workspace) -> None:
    def forgetful(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        for batch in batches:
            table = loud(batch.table)
            yield table.slice(0, table.num_rows - ("PROMPT 0.6!" in table["loud"].to_pylist()))

    results = run(workspace, doing(forgetful))
    assert [results[part].error is None for part in range(3)] == [False, True, True]
    assert [loud_words(workspace, part) for part in (1, 2)] == [expected(1), expected(2)]


def test_surplus_rows_reach_no_part(workspace: Workspace) -> None:
    def generous(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        for batch in batches:
            table = loud(batch.table)
            yield table
            if "PROMPT 1.6!" in table["loud"].to_pylist():
                yield table

    results = run(workspace, doing(generous))
    assert [results[part].error for part in range(3)] == [None, None, None]
    assert [loud_words(workspace, part) for part in range(3)] == [expected(p) for p in range(3)]


def test_rows_with_the_ids_of_others_are_an_error(workspace: Workspace) -> None:
    def backwards(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        for batch in batches:
            table = loud(batch.table)
            yield table.take(list(range(table.num_rows - 1, -1, -1)))

    assert all(result.error is not None for result in run(workspace, doing(backwards)).values())


@pytest.mark.timeout(3)
def test_a_function_that_neither_reads_nor_gives_ends_in_an_error(workspace: Workspace) -> None:
    results = run(workspace, doing(lambda batches: iter(())))
    assert all(result.error is not None for result in results.values())


def test_rows_of_another_shape_are_an_error_of_the_part(workspace: Workspace) -> None:
    def other(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        for batch in batches:
            yield batch.table

    results = run(workspace, doing(other))
    assert all(result.error is not None for result in results.values())
    assert workspace.parts("loud") == []


# Reuse


def remembering(seen: list[Batch]) -> Callable[[Iterable[Batch]], Iterator[pa.Table]]:
    def function(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        for batch in batches:
            seen.append(batch)
            yield loud(batch.table)

    return function


def forced(workspace: Workspace, stage: Stage, params: Params) -> list[PartState]:
    """Every part again, fresh or not."""
    jobs = plan(workspace, stage, params)
    assert len(list(run_stage(LocalEngine(), workspace, stage, params, jobs, ignore))) == len(jobs)
    return jobs


@pytest.mark.usefixtures("row_groups_of_batches")
def test_a_stage_that_asks_gets_its_previous_rows(workspace: Workspace) -> None:
    seen: list[Batch] = []
    stage = doing(remembering(seen), reuses_rows=True)
    forced(workspace, stage, Shout())
    assert [batch.previous for batch in seen] == [None] * 9
    assert not any(batch.same_settings for batch in seen)
    seen.clear()
    forced(workspace, stage, Shout())
    assert all(batch.same_settings for batch in seen)
    for batch in seen:
        assert batch.previous is not None
        assert batch.previous["id"].to_pylist() == batch.table["id"].to_pylist()
        assert batch.previous.column_names == ["id", "loud"]


@pytest.mark.usefixtures("row_groups_of_batches")
def test_previous_rows_made_with_other_settings_are_marked(workspace: Workspace) -> None:
    seen: list[Batch] = []
    stage = doing(remembering(seen), reuses_rows=True)
    forced(workspace, stage, Shout())
    seen.clear()
    forced(workspace, stage, Shout(mark="?"))
    assert all(batch.previous is not None and not batch.same_settings for batch in seen)


@pytest.mark.usefixtures("row_groups_of_batches")
def test_previous_rows_may_be_fewer_when_the_part_has_grown(workspace: Workspace) -> None:
    seen: list[Batch] = []
    stage = doing(remembering(seen), reuses_rows=True)
    forced(workspace, stage, Shout())
    write_samples(workspace, 0, words(0, 11))
    seen.clear()
    run(workspace, stage)
    lengths = [batch.previous.num_rows if batch.previous else None for batch in seen]
    assert lengths == [3, 3, 1, None]
    assert [batch.table.num_rows for batch in seen] == [3, 3, 3, 2]


def test_a_stage_that_does_not_ask_gets_no_previous_rows(workspace: Workspace) -> None:
    seen: list[Batch] = []
    stage = doing(remembering(seen))
    forced(workspace, stage, Shout())
    forced(workspace, stage, Shout())
    assert all(batch.previous is None for batch in seen)


def test_a_damaged_previous_version_is_not_handed_out(workspace: Workspace) -> None:
    seen: list[Batch] = []
    stage = doing(remembering(seen), reuses_rows=True)
    forced(workspace, stage, Shout())
    path = Path(workspace.location, part_name("loud", 1))
    path.write_bytes(path.read_bytes()[:-30])
    seen.clear()
    assert run(workspace, stage)[1].error is None
    assert all(batch.previous is None for batch in seen)
    assert states(workspace) == ["fresh"] * 3


def test_row_groups_are_not_as_small_as_batches(workspace: Workspace) -> None:
    forced(workspace, STAGE, Shout())
    path = Path(workspace.location, part_name("loud", 0))
    assert pq.read_metadata(path).num_row_groups == 1  # of 7 rows, computed 3 at a time


def flip_a_bit_in_a_page(workspace: Workspace, part: int) -> None:
    """Damage that the footer does not show."""
    path = Path(workspace.location, part_name("loud", part))
    chunk = pq.read_metadata(path).row_group(0).column(0)
    last = chunk.data_page_offset + chunk.total_compressed_size - 1
    data = path.read_bytes()
    path.write_bytes(data[:last] + bytes([data[last] ^ 1]) + data[last + 1 :])


def test_a_previous_version_with_a_flipped_bit_does_not_keep_a_part_from_being_computed(
    workspace: Workspace,
) -> None:
    stage = doing(remembering([]), reuses_rows=True)
    forced(workspace, stage, Shout())
    flip_a_bit_in_a_page(workspace, 1)
    jobs = plan(workspace, stage, Shout(mark="?"))
    results = {
        r.part: r for r in run_stage(LocalEngine(), workspace, stage, Shout(mark="?"), jobs, ignore)
    }
    assert [results[part].error for part in range(3)] == [None] * 3


def test_damage_found_while_reading_an_input_makes_the_next_run_compute_it_again(
    workspace: Workspace,
) -> None:
    run(workspace)
    flip_a_bit_in_a_page(workspace, 1)
    second = replace(STAGE, name="look", group="look", reads={"loud": ("loud",)}, open=open_look)
    results = run(workspace, second)
    assert [results[part].error is None for part in range(3)] == [True, False, True]
    assert states(workspace)[1] != "fresh"
    run(workspace)
    run(workspace, second)
    assert states(workspace, second) == ["fresh"] * 3


def open_look(params: Shout) -> StageFunction:
    def function(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        for batch in batches:
            yield batch.table

    return function


# Processes


def part_bytes(workspace: Workspace, part: int, group: str = "loud") -> bytes:
    return workspace.storage.read_bytes(part_name(group, part))


@pytest.fixture
def prompts_stage() -> Stage:
    return stage_named("prompts")


def test_two_processes_write_the_same_bytes_as_one(tmp_path: Path, prompts_stage: Stage) -> None:
    written = []
    for workers in (1, 2):
        workspace = Workspace(tmp_path / str(workers))
        for part in range(3):
            write_samples(workspace, part, ["a (red:1.2) cat <lora:x:0.5>", None, "", *words(part)])
        params = prompts_stage.params(language=False)
        results = run(workspace, prompts_stage, params, workers=workers)
        assert [results[part].error for part in range(3)] == [None] * 3
        assert states(workspace, prompts_stage, params) == ["fresh"] * 3
        written.append([part_bytes(workspace, part, "prompts") for part in range(3)])
    assert written[0] == written[1]


def test_a_table_whose_texts_pass_2_gib_is_cut_into_parts_to_its_last_row() -> None:
    rows, size = 500, 5_000_000
    letters = np.zeros(rows * size, np.uint8)  # the system has no memory for it until it is read
    letters[-size] = ord("z")
    ends = pa.py_buffer(np.arange(rows + 1, dtype=np.int64) * size)
    column = pa.Array.from_buffers(pa.large_string(), rows, [None, ends, pa.py_buffer(letters)])
    schema = pa.schema([("text", pa.string())])
    found = 0
    for part in part_by_part(pa.table({"text": column}), [20] * 25, schema):
        found += part.num_rows
        assert part.schema == schema
        assert set(pc.binary_length(part["text"]).to_pylist()) == {size}
    assert found == rows
    assert part["text"][19].as_buffer()[0] == ord("z"), "of the last row"


# Rows that need no computing


def seen_rows(given: list[str]) -> Callable[[Iterable[Batch]], Iterator[pa.Table]]:
    """Notes the prompts it is given, as a model that is asked would."""

    def function(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        for batch in batches:
            given.extend(batch.table["prompt"].to_pylist())
            yield loud(batch.table)

    return function


def costly(given: list[str], **changed: Any) -> Stage:
    """A stage whose rows cost model calls."""
    return doing(seen_rows(given), row_inputs={"samples": ("prompt",)}, **changed)


def computed_at_once(tmp_path: Path, *prompts: list[str]) -> list[bytes]:
    """The parts of a stage that computes every row."""
    workspace = Workspace(tmp_path / "at once")
    for part, some in enumerate(prompts):
        write_samples(workspace, part, some)
    run(workspace, costly([]))
    return [part_bytes(workspace, part) for part in range(len(prompts))]


def left_behind(workspace: Workspace) -> list[Path]:
    return sorted(Path(workspace.location).glob("loud/.unfinished/*"))


def test_of_a_changed_part_only_the_changed_rows_are_given_to_the_stage(
    workspace: Workspace, tmp_path: Path
) -> None:
    given: list[str] = []
    run(workspace, costly(given))
    assert len(given) == 21
    given.clear()
    changed = [*words(1)[:2], "other", *words(1)[3:], "one more"]
    write_samples(workspace, 1, changed)
    assert set(run(workspace, costly(given))) == {1}
    assert given == ["other", "one more"]
    assert part_bytes(workspace, 1) == computed_at_once(tmp_path, words(0), changed)[1]


def test_a_part_whose_rows_are_all_known_is_written_anew_without_the_stage(
    workspace: Workspace,
) -> None:
    given: list[str] = []
    run(workspace, costly(given))
    given.clear()
    for part in (0, 2):
        table = workspace.read("samples", part)
        authors = pa.array(["someone"] * table.num_rows)
        at = table.column_names.index("author")
        with workspace.writing_part("samples", part, SAMPLES, 1000) as writer:
            writer.write(table.set_column(at, SAMPLES.field("author"), authors))
            writer.describe(fingerprint="", settings="", inputs={}, extra={})
    assert states(workspace) == ["stale: samples changed", "fresh", "stale: samples changed"]
    assert set(run(workspace, costly(given))) == {0, 2}
    assert given == []
    assert states(workspace) == ["fresh"] * 3
    assert loud_words(workspace, 2) == expected(2)


def louder(rows: pa.Table, params: Shout) -> pa.Table:
    """What another version of the stage makes of rows of this one."""
    words = pc.binary_join_element_wise(rows["loud"], params.mark, "")
    return rows.set_column(1, SCHEMA.field("loud"), words)


def test_rows_of_an_earlier_version_are_upgraded_without_the_stage(workspace: Workspace) -> None:
    given: list[str] = []
    run(workspace, costly([]))
    write_samples(workspace, 1, ["other", *words(1)[1:]])
    today = costly(given, version=STAGE.version + 1, upgrades={STAGE.version: louder})
    assert states(workspace, today)[0] == "stale: settings changed"
    assert set(run(workspace, today)) == {0, 1, 2}
    assert given == ["other"]
    assert loud_words(workspace, 0) == expected(0, "!!")
    assert loud_words(workspace, 1) == ["OTHER!", *expected(1, "!!")[1:]]
    assert states(workspace, today) == ["fresh"] * 3


def test_rows_that_were_made_with_other_parameters_are_not_upgraded(workspace: Workspace) -> None:
    given: list[str] = []
    run(workspace, costly([]))
    today = costly(given, version=STAGE.version + 1, upgrades={STAGE.version: louder})
    run(workspace, today, Shout(mark="?"))
    assert len(given) == 21


def test_new_rows_come_in_whole_batches_wherever_they_are(workspace: Workspace) -> None:
    run(workspace, costly([]))
    write_samples(workspace, 0, [f"new {n}" if n % 2 else w for n, w in enumerate(words(0, 14))])
    lengths = []

    def function(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        for batch in batches:
            lengths.append(batch.table.num_rows)
            yield loud(batch.table)

    run(workspace, doing(function, row_inputs={"samples": ("prompt",)}))
    assert lengths == [3, 3, 3, 1], "of 14, four even ones were known"


def test_with_other_settings_every_row_is_computed(workspace: Workspace) -> None:
    given: list[str] = []
    run(workspace, costly(given))
    given.clear()
    louder = Shout(mark="?")
    run(workspace, costly(given), louder)
    assert len(given) == 21


def test_parts_of_an_earlier_version_are_fresh_and_their_rows_are_computed_when_they_change(
    workspace: Workspace,
) -> None:
    run(workspace)  # as it was written before there were keys
    given: list[str] = []
    assert states(workspace, costly(given)) == ["fresh"] * 3
    assert run(workspace, costly(given)) == {}
    write_samples(workspace, 1, ["other", *words(1)[1:]])
    run(workspace, costly(given))
    assert given == ["other", *words(1)[1:]]


def test_rows_without_a_final_status_are_computed_with_their_part(workspace: Workspace) -> None:
    schema = pa.schema([*SCHEMA, pa.field("status", pa.string())])
    given: list[str] = []

    def judge(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        for batch in batches:
            prompts = batch.table["prompt"].to_pylist()
            given.extend(prompts)
            statuses = [{"0": "broken", "1": "dull"}.get(p[-1], "ok") for p in prompts]
            yield loud(batch.table).append_column(schema.field("status"), pa.array(statuses))

    stage = doing(judge, schema=schema, row_inputs={"samples": ("prompt",)}, final=("ok", "dull"))
    run(workspace, stage)
    given.clear()
    write_samples(workspace, 1, [*words(1), "more"])
    run(workspace, stage)
    assert given == ["prompt 1.0", "more"]


@pytest.mark.usefixtures("row_groups_of_batches")
def test_rows_of_a_damaged_row_group_are_computed_and_those_beside_it_are_not(
    workspace: Workspace,
) -> None:
    given: list[str] = []
    run(workspace, costly(given))
    right = part_bytes(workspace, 1)
    given.clear()
    flip_a_bit_in_a_page(workspace, 1)
    with pytest.raises(WorkspaceError):
        workspace.read("loud", 1)
    run(workspace, costly(given))
    assert given == words(1)[:3]
    assert part_bytes(workspace, 1) == right


def stopping_at(
    word: str, error: BaseException, given: list[str]
) -> Callable[[Iterable[Batch]], Iterator[pa.Table]]:
    def function(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        for batch in batches:
            if word in batch.table["prompt"].to_pylist():
                raise error
            given.extend(batch.table["prompt"].to_pylist())
            yield loud(batch.table)

    return function


def interrupt(workspace: Workspace, word: str) -> list[str]:
    """Ctrl-C at the batch that has a word; returns what was computed before."""
    given: list[str] = []
    stage = doing(
        stopping_at(word, KeyboardInterrupt(), given), row_inputs={"samples": ("prompt",)}
    )
    with pytest.raises(KeyboardInterrupt):
        run(workspace, stage)
    return given


def test_rows_computed_before_an_interrupt_are_not_computed_again(
    workspace: Workspace, tmp_path: Path
) -> None:
    before = interrupt(workspace, "prompt 1.6")
    assert before == [*words(0), *words(1)[:6]]
    given: list[str] = []
    run(workspace, costly(given))
    assert given == [*words(1)[6:], *words(2)]
    whole = computed_at_once(tmp_path, words(0), words(1), words(2))
    assert [part_bytes(workspace, part) for part in range(3)] == whole


def test_known_rows_are_told_before_the_stage_gives_any(workspace: Workspace) -> None:
    interrupt(workspace, "prompt 1.6")
    told: list[dict[str, int]] = []
    given: list[str] = []
    stage = costly(given)
    jobs = [state for state in plan(workspace, stage, Shout()) if state.state != "fresh"]
    list(run_stage(LocalEngine(), workspace, stage, Shout(), jobs, lambda c: told.append({**c})))
    assert told[0] == {"known": 6}
    assert sum(n for counts in told for n in counts.values()) == 14 and len(given) == 8


def test_a_part_that_fails_keeps_the_rows_it_had_for_the_next_run(workspace: Workspace) -> None:
    given: list[str] = []
    stage = doing(
        stopping_at("prompt 1.4", ValueError("no"), given), row_inputs={"samples": ("prompt",)}
    )
    assert run(workspace, stage)[1].error == "ValueError: no"
    assert given == [*words(0), *words(1)[:3], *words(2)]
    given.clear()
    run(workspace, costly(given))
    assert given == words(1)[3:]


def test_what_an_interrupt_left_is_no_use_with_other_settings_or_inputs(
    workspace: Workspace,
) -> None:
    interrupt(workspace, "prompt 1.6")
    write_samples(workspace, 1, ["other", *words(1)[1:]])
    given: list[str] = []
    jobs = [state for state in plan(workspace, STAGE, Shout()) if state.part == 1]
    stage = costly(given)
    assert list(run_stage(LocalEngine(), workspace, stage, Shout(mark="?"), jobs, ignore))
    assert given == ["other", *words(1)[1:]]
    given.clear()
    list(run_stage(LocalEngine(), workspace, stage, Shout(), jobs, ignore))
    assert given == ["other", "prompt 1.6"]


@pytest.mark.parametrize("cut", [0, 1, 7, 100, -1, -100])
def test_what_an_interrupt_left_may_be_cut_off_anywhere(
    workspace: Workspace, tmp_path: Path, cut: int
) -> None:
    interrupt(workspace, "prompt 1.6")
    (path,) = left_behind(workspace)
    path.write_bytes(path.read_bytes()[:cut])
    given: list[str] = []
    run(workspace, costly(given))
    assert given == [*words(1)[3 if cut < 0 else 0 :], *words(2)]
    whole = computed_at_once(tmp_path, words(0), words(1), words(2))
    assert [part_bytes(workspace, part) for part in range(3)] == whole


@pytest.mark.parametrize("at", [0, 10, 200, -10])
def test_a_flipped_bit_in_what_an_interrupt_left_costs_rows_and_no_mistake(
    workspace: Workspace, tmp_path: Path, at: int
) -> None:
    interrupt(workspace, "prompt 1.6")
    (path,) = left_behind(workspace)
    data = bytearray(path.read_bytes())
    data[at] ^= 16
    path.write_bytes(data)
    given: list[str] = []
    run(workspace, costly(given))
    assert given == [*words(1)[3 if at < 0 else 0 :], *words(2)]
    whole = computed_at_once(tmp_path, words(0), words(1), words(2))
    assert [part_bytes(workspace, part) for part in range(3)] == whole


def test_what_an_interrupt_left_survives_another(workspace: Workspace) -> None:
    interrupt(workspace, "prompt 1.4")
    assert interrupt(workspace, "prompt 1.6") == words(1)[3:6]
    given: list[str] = []
    run(workspace, costly(given))
    assert given == [*words(1)[6:], *words(2)]


def test_on_an_object_store_too_an_interrupt_keeps_rows(tmp_path: Path) -> None:
    workspace = Workspace(f"memory://{tmp_path.name}-rows")
    for part in range(2):
        write_samples(workspace, part, words(part))
    before = interrupt(workspace, "prompt 1.6")
    given: list[str] = []
    run(workspace, costly(given))
    assert given == words(1)[6:] and before == [*words(0), *words(1)[:6]]
    assert [loud_words(workspace, part) for part in range(2)] == [expected(p) for p in range(2)]
