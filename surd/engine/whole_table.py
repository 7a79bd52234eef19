"""Computing a stage whose every part depends on all rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa

from surd.engine.parts import PartResult, StageError, count_statuses
from surd.engine.plan import PartState
from surd.params import Params
from surd.progress import Tick
from surd.stages.base import OfPart, Stage, WholeTable, part_fingerprint, settings_fingerprint
from surd.store import gone, manual
from surd.store.aligned import read_aligned, side_by_side
from surd.store.prefetch import READERS, at_once
from surd.store.workspace import Workspace

_WRITERS = 4
"""Parts that are written at once; a disk that is told to sync lets each of them wait."""


def compute_table(
    workspace: Workspace, stage: Stage, params: Params, jobs: Sequence[PartState], tick: Tick
) -> Iterator[PartResult]:
    """Run the stage over all parts; write those that are due, and yield each once written.

    Raises SurdError when a part cannot be read: what depends on all rows cannot do without some.
    """
    due = {job.part: job for job in jobs}
    settings = settings_fingerprint(stage, params)
    parts = workspace.parts("samples")
    decisions = manual.read(workspace) if stage.by_hand else {}
    tables = stage.open(params)(whole_table(workspace, stage, decisions))

    def write(part: int, table: pa.Table) -> PartResult:
        job = due[part]
        if table.num_rows != job.rows:
            raise StageError(f"{stage.name} changed the rows of part {part}")
        counts = count_statuses(table)
        inputs = {group: d for group, d in (job.inputs or {}).items() if group != manual.GROUP}
        inputs |= manual.inputs(decisions)  # those that were read, should some have come since
        with workspace.writing_part(stage.group, part, stage.schema, job.rows) as writer:
            writer.write(table)
            writer.describe(
                fingerprint=part_fingerprint(settings, inputs),
                settings=settings,
                inputs=inputs,
                extra={"counts": dict(sorted(counts.items()))},
            )
        return PartResult(part, counts)

    wanted = (pair for pair in zip(parts, tables, strict=True) if pair[0] in due)
    for result in at_once(wanted, lambda pair: write(*pair), _WRITERS):
        tick(result.counts)
        yield result


def whole_table(workspace: Workspace, stage: Stage, decisions: manual.Decisions) -> WholeTable:
    """All parts, for a stage to go through."""
    parts = workspace.parts("samples")
    absent = gone.read(workspace) if stage.by_hand else frozenset()

    def table_of(part: int) -> pa.Table:
        table = read_part(workspace, stage, part)
        if stage.by_hand:
            table = table.append_column(manual.GROUP, manual.column(table["id"], decisions))
            table = table.append_column(gone.REASON, gone.column(table["id"], absent))
        return table

    def whole(of_part: Callable[[pa.Table], OfPart]) -> Iterator[OfPart]:
        return at_once(parts, lambda part: of_part(table_of(part)), READERS)

    return whole


def read_part(workspace: Workspace, stage: Stage, part: int) -> pa.Table:
    """What the stage reads of one part, side by side."""
    return side_by_side(read_aligned(workspace, part, stage.reads))
