"""Computing parts of one stage in one process; what every engine builds on."""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from surd.engine.plan import PartState
from surd.params import Params
from surd.progress import Tick
from surd.stages.base import Batch, Stage, StageFunction, part_fingerprint, settings_fingerprint
from surd.store.aligned import read_batches_aligned, side_by_side
from surd.store.part_writer import PartWriter
from surd.store.workspace import DamagedPartError, Workspace


class StageError(Exception):
    """A stage's function broke its contract, or something it relies on failed."""


@dataclass
class _Fed:
    """A part whose rows were handed to the stage, and the ids that must come back, in order."""

    job: PartState
    ids: deque[str] = field(default_factory=deque)


@dataclass(frozen=True)
class PartResult:
    """A part that was computed, or could not be."""

    part: int
    counts: Mapping[str, int]
    error: str | None = None


def compute(
    workspace: Workspace,
    stage: Stage,
    params: Params,
    function: StageFunction,
    jobs: Iterable[PartState],
    tick: Tick,
) -> Iterator[PartResult]:
    """Run the stage's function over the rows of several parts as one stream.

    The function may read ahead into later parts while earlier ones are still on their way, so
    nothing idles at the end of a part. Each part is yielded once it is written.
    """
    settings = settings_fingerprint(stage, params)
    fed: deque[_Fed] = deque()
    tables = function(_batches(workspace, stage, settings, jobs, fed))
    rest: pa.Table | None = None
    with ExitStack() as stack:
        if hasattr(tables, "close"):
            stack.callback(tables.close)
        while True:
            if rest is None:
                rest = _pull(tables)
            if not fed:
                if rest is not None:
                    raise StageError(f"{stage.name} gave more rows than it was given")
                break
            job, ids = fed[0].job, fed[0].ids
            counts: Counter[str] = Counter()
            with workspace.writing_part(
                stage.group, job.part, stage.schema, stage.batch_rows
            ) as writer:
                while writer.rows < job.rows:
                    rest = _pull(tables) if rest is None else rest
                    if rest is None:
                        raise StageError(f"{stage.name} gave fewer rows than it was given")
                    piece = rest.slice(0, job.rows - writer.rows)
                    rest = rest.slice(piece.num_rows) if piece.num_rows < rest.num_rows else None
                    given = [ids.popleft() for _ in range(min(piece.num_rows, len(ids)))]
                    if piece["id"].to_pylist() != given:
                        raise StageError(f"{stage.name} did not keep the rows and their order")
                    _write(writer, piece, counts, tick)
                inputs = dict(job.inputs or {})
                writer.describe(
                    fingerprint=part_fingerprint(settings, inputs),
                    settings=settings,
                    inputs=inputs,
                    extra={"counts": dict(sorted(counts.items()))},
                )
            fed.popleft()
            yield PartResult(job.part, counts)


def _pull(tables: Iterator[pa.Table]) -> pa.Table | None:
    """The next table with rows, None at the end. A stage's OSError is no error of our disk."""
    try:
        return next((table for table in tables if table.num_rows), None)
    except OSError as error:
        raise StageError(f"{type(error).__name__}: {error}") from error


def _write(writer: PartWriter, piece: pa.Table, counts: Counter[str], tick: Tick) -> None:
    writer.write(piece)
    found = count_statuses(piece)
    counts.update(found)
    tick(found)


def count_statuses(table: pa.Table) -> dict[str, int]:
    """Rows by status; by keep and drop where there are verdicts."""
    if "keep" in table.column_names:
        kept = pc.sum(table["keep"]).as_py() or 0
        return {"keep": kept, "drop": table.num_rows - kept}
    if "status" not in table.column_names:
        return {"ok": table.num_rows}
    return {item["values"]: item["counts"] for item in pc.value_counts(table["status"]).to_pylist()}


def _batches(
    workspace: Workspace,
    stage: Stage,
    settings: str,
    jobs: Iterable[PartState],
    fed: deque[_Fed],
) -> Iterator[Batch]:
    """The rows of the jobs' parts, batch by batch; notes in ``fed`` what was handed out."""
    for job in jobs:
        handed = _Fed(job)
        fed.append(handed)
        earlier = _earlier(workspace, stage, job)
        for tables in read_batches_aligned(workspace, job.part, stage.reads, stage.batch_rows):
            same = job.info is not None and job.info.settings == settings
            table = side_by_side(tables)
            handed.ids.extend(table["id"].to_pylist())
            yield Batch(table, next(earlier, None), same)


def _earlier(workspace: Workspace, stage: Stage, job: PartState) -> Iterator[pa.Table | None]:
    """The part's earlier version, as far as it can be read; its row groups are batches."""
    if stage.reuses_rows and job.info is not None:
        with contextlib.suppress(DamagedPartError):
            yield from workspace.salvage(stage.group, job.part)
