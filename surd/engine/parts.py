"""Computing parts of one stage in one process; what every engine builds on."""

from __future__ import annotations

import contextlib
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from surd.engine.plan import PartState
from surd.engine.reuse import PartRows, Settings, keep, known_rows, look, settings_of
from surd.errors import ModelError
from surd.params import Params
from surd.progress import KNOWN, Tick
from surd.stages.base import Batch, Stage, StageFunction, part_fingerprint
from surd.store import edits, journal
from surd.store.aligned import read_aligned, read_batches_aligned, side_by_side
from surd.store.part_writer import PartWriter
from surd.store.workspace import DamagedPartError, Workspace


class StageError(Exception):
    """A stage's function broke its contract, or something it relies on failed."""


@dataclass
class _Fed:
    """A part whose rows were handed to the stage, and the ids that must come back, in order."""

    job: PartState
    inputs: Mapping[str, str]
    """Group -> digest of what is read."""
    rows: PartRows | None = None
    """Of a stage whose rows are reused."""
    ids: deque[str] = field(default_factory=deque)

    def runs(self) -> Iterator[tuple[bool, npt.NDArray[np.int64]]]:
        """Neighbouring rows that are known, or that the stage was given."""
        if self.rows is None:
            yield False, np.arange(self.job.rows)
            return
        known = self.rows.known
        bounds = np.flatnonzero(np.diff(known)) + 1
        for some in np.split(np.arange(len(known)), bounds):
            if len(some):
                yield bool(known[some[0]]), some


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
    settings = settings_of(stage, params)
    fed: deque[_Fed] = deque()
    tables = function(_batches(workspace, settings, jobs, fed, tick))
    with ExitStack() as stack:
        if hasattr(tables, "close"):
            stack.callback(tables.close)
        output = _Output(tables)
        while True:
            if not fed:
                output.pull()
            if not fed:
                if output.table is not None:
                    raise StageError(f"{stage.name} returned more rows than it received")
                break
            counts = _write_part(workspace, settings, fed[0], output, tick)
            yield PartResult(fed.popleft().job.part, counts)


class _Output:
    """What the stage gives, to be taken in pieces."""

    def __init__(self, tables: Iterator[pa.Table]) -> None:
        self._tables = tables
        self.table: pa.Table | None = None
        """What was given and not taken yet."""

    def pull(self) -> None:
        """Ask for more where there is none. A stage's OSError is no error of our disk."""
        if self.table is None:
            try:
                self.table = next((table for table in self._tables if table.num_rows), None)
            except OSError as error:
                raise StageError(f"{type(error).__name__}: {error}") from error

    def take(self, rows: int) -> pa.Table | None:
        """At most so many of the next rows; None at the end."""
        self.pull()
        if self.table is None:
            return None
        piece = self.table.slice(0, rows)
        rest = self.table.slice(piece.num_rows)
        self.table = rest if rest.num_rows else None
        return piece


def _write_part(
    workspace: Workspace, settings: Settings, part: _Fed, output: _Output, tick: Tick
) -> Counter[str]:
    """Put together what is known and what the stage gives; returns the rows by status."""
    job, rows, stage = part.job, part.rows, settings.stage
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    known = known_rows(workspace, settings, job.part, rows) if rows and rows.known.any() else None
    with (
        journal.Journal(workspace.storage, stage.group, job.part) as kept,
        workspace.writing_part(stage.group, job.part, stage.schema) as writer,
    ):
        for is_known, run in part.runs():
            if is_known and known is not None:
                counts.update(count_statuses(known.slice(0, len(run))))
                writer.write(known.slice(0, len(run)))  # the tick has had them
                known = known.slice(len(run))
                continue
            while len(run):
                piece = _next_piece(stage, output, len(run), part.ids)
                reasons.update(failures(stage, piece))
                if rows is not None:
                    keep(kept, stage, piece, rows.keys[run[: piece.num_rows]])
                _write(writer, piece, counts, tick)
                run = run[piece.num_rows :]
        if writer.rows != job.rows:
            raise StageError(f"{stage.name} returned fewer rows than it received")
        _keep_answers(workspace, stage, job, counts, reasons)
        writer.describe(
            fingerprint=part_fingerprint(settings.today, part.inputs),
            settings=settings.today,
            inputs=dict(part.inputs),
            extra={"counts": dict(sorted(counts.items()))},
            row_keys=None if rows is None else rows.keys,
        )
    kept.delete()
    return counts


def _keep_answers(
    workspace: Workspace,
    stage: Stage,
    job: PartState,
    counts: Mapping[str, int],
    reasons: Counter[str],
) -> None:
    """Raise ModelError where a part that has answers would be replaced by one that has none."""
    before = job.info.extra.get("counts", {}) if job.info else {}
    asked = sum(counts.get(status, 0) for status in stage.unanswered)
    if asked and before.get("ok") and not counts.get("ok"):
        why = f"; most often: {reasons.most_common(1)[0][0]}" if reasons else ""
        raise ModelError(
            f"{workspace.location}: {stage.name}: none of {asked} pictures of part {job.part} got "
            f"an answer{why}; its {before['ok']:,} answers of before are kept, and once this is "
            "mended the same command asks again"
        )


def failures(stage: Stage, table: pa.Table) -> Counter[str]:
    """Of rows without an answer: why, as far as they say -> rows."""
    if not stage.unanswered or "detail" not in table.column_names:
        return Counter()
    failed = pc.is_in(table["status"], pa.array(stage.unanswered))
    details = table["detail"].filter(failed).drop_null()
    return Counter(details.to_pylist())


def _next_piece(stage: Stage, output: _Output, rows: int, ids: deque[str]) -> pa.Table:
    piece = output.take(rows)
    if piece is None:
        raise StageError(f"{stage.name} returned fewer rows than it received")
    given = [ids.popleft() for _ in range(min(piece.num_rows, len(ids)))]
    if piece["id"].to_pylist() != given:
        raise StageError(f"{stage.name} changed the rows or their order")
    return piece


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
    settings: Settings,
    jobs: Iterable[PartState],
    fed: deque[_Fed],
    tick: Tick,
) -> Iterator[Batch]:
    """The rows of the jobs' parts, batch by batch; notes in ``fed`` what was handed out, and tells
    the tick at once which rows are known."""
    stage = settings.stage
    texts = edits.current(workspace) if stage.edited else {}
    for job in jobs:
        handed = _Fed(job, job.inputs or {})
        same = job.info is not None and job.info.settings == settings.today
        if stage.row_inputs is not None:
            inputs = side_by_side(read_aligned(workspace, job.part, stage.row_inputs))
            if stage.edited:
                handed.inputs = _with_edits(job, inputs["id"], texts)
                inputs = inputs.append_column(edits.COLUMN, edits.column(inputs["id"], texts))
            handed.rows = look(workspace, settings, job.part, inputs)
            tick({KNOWN: int(handed.rows.known.sum())})
        fed.append(handed)
        new = None if handed.rows is None else np.flatnonzero(~handed.rows.known)
        if new is not None and not len(new):
            continue
        earlier = _earlier(workspace, stage, job)
        for tables in read_batches_aligned(
            workspace, job.part, stage.reads, stage.batch_rows, rows=new
        ):
            table = side_by_side(tables)
            if stage.edited:
                table = table.append_column(edits.COLUMN, edits.column(table["id"], texts))
            handed.ids.extend(table["id"].to_pylist())
            yield Batch(table, next(earlier, None), same)


def _with_edits(job: PartState, ids: pa.ChunkedArray, texts: edits.Texts) -> dict[str, str]:
    """The inputs with the edits that were read, should some have come since the plan."""
    planned = dict(job.inputs or {})
    planned.pop(edits.GROUP, None)
    return planned | edits.inputs(ids, texts)


def _earlier(workspace: Workspace, stage: Stage, job: PartState) -> Iterator[pa.Table | None]:
    """The part's earlier version, as far as it can be read; its row groups are batches."""
    if stage.reuses_rows and job.info is not None:
        with contextlib.suppress(DamagedPartError):
            yield from workspace.salvage(stage.group, job.part)
