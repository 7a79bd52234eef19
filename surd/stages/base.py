"""What a stage is: a function from a stream of batches to a stream of batches."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, TypeVar

import pyarrow as pa

from surd.models.names import identity
from surd.params import Params, lasting


@dataclass(frozen=True, slots=True)
class Batch:
    """Consecutive rows of one part.

    ``table`` has the ``id`` column and the columns the stage reads. ``previous`` holds what the
    part's earlier version had for the same rows, from the first on, and may be shorter; it is
    None for stages that do not reuse rows, and where there is no earlier version or it is damaged.
    ``same_settings`` tells whether that version was made with the settings of today.
    """

    table: pa.Table
    previous: pa.Table | None = None
    same_settings: bool = False


OfPart = TypeVar("OfPart")

StageFunction = Callable[[Iterable[Batch]], Iterator[pa.Table]]
"""Takes batches, yields tables: the same rows in the same order, however they are cut."""


class WholeTable(Protocol):
    """All parts, to be gone through as often as a stage likes."""

    def __call__(self, of_part: Callable[[pa.Table], OfPart], /) -> Iterator[OfPart]:
        """Read every part again, and yield what ``of_part`` makes of each, in order. It is called
        in threads, with a table that has ``id`` and what the stage reads."""


TableFunction = Callable[[WholeTable], Iterator[pa.Table]]
"""Takes all parts at once, yields one table a part: the same rows in the same order."""


def part_by_part(table: pa.Table, sizes: Iterable[int], schema: pa.Schema) -> Iterator[pa.Table]:
    """Cut a table of all rows, whose texts have 64-bit offsets, into a table of ``schema`` a part.

    Each is copied first: cast as a slice, its offsets would count from the first row of all, and
    pass what 32 bits hold.
    """
    start = 0
    for size in sizes:
        piece = [_copied(column.slice(start, size)) for column in table.columns]
        yield pa.Table.from_arrays(piece, names=table.column_names).cast(schema)
        start += size


def _copied(column: pa.ChunkedArray) -> pa.Array:
    """Joining with nothing copies whole buffers, where taking rows would go row by row."""
    return pa.concat_arrays([*column.chunks, pa.nulls(0, column.type)])


def _no_models(_: Params) -> Sequence[str | None]:
    return ()


def _nothing(_: Params) -> Mapping[str, str]:
    return {}


def _one_place(params: Params) -> Sequence[Params]:
    return [params]


@dataclass(frozen=True)
class Stage:
    """One step of the build. It adds one column group and never touches another."""

    name: str
    """What the recipe and the command line call it."""
    group: str
    """The folder its parts are written to."""
    version: int
    """Raised when the same input and parameters would give other rows than before."""
    reads: Mapping[str, tuple[str, ...]]
    """Group -> columns."""
    schema: pa.Schema
    params: type[Params]
    open: Callable[[Any], Any]
    """Loads what the stage needs (models, pools) and returns the function that does the work:
    a StageFunction, or a TableFunction where the scope is the table."""
    scope: Literal["part", "table"] = "part"
    """``table``: a part depends on the rows of all parts (duplicates, quantiles)."""
    models: Callable[[Any], Sequence[str | None]] = _no_models
    """The models among the parameters, whose weights belong to the fingerprint."""
    workers: Literal["one", "cores"] = "cores"
    """``one``: the stage is concurrent by itself. ``cores``: one process a core pays off."""
    places: Callable[[Any], Sequence[Params]] = _one_place
    """Of a stage that is concurrent by itself: the parameters of each process that pays off on one
    machine, as one a device."""
    uses_network: bool = False
    """It waits for other machines most of the time, and has time limits of its own for that."""
    by_hand: bool = False
    """Of a table stage: give it the decisions by hand too, as a column ``manual``: keep, drop or
    null; and as a column ``gone`` what its source no longer has. They belong to the fingerprint."""
    edited: bool = False
    """Of a part stage with `row_inputs`: give it the simple prompts written by hand too, as a
    column ``edit``. They belong to the fingerprint of their part and to the key of their row."""
    limits: tuple[str, ...] = ()
    """Runtime parameters that bound all workers together, such as connections to a host: of several
    workers each gets its share."""
    reuses_rows: bool = False
    """Ask the engine for the earlier version of each part, to judge by itself what is reused."""
    row_inputs: Mapping[str, tuple[str, ...]] | None = None
    """Group -> columns: all that a row depends on beside the settings; for a stage whose rows cost
    model calls. The engine gives it no row whose result it has for equal values. They are read
    before anything else, so a digest stands for bytes (``images.sha256``)."""
    final: tuple[str, ...] = ("ok",)
    """Statuses of rows that would come out the same again; others are computed with their part."""
    passing: tuple[str, ...] = ()
    """Statuses of rows that another try may change, as of a server that gave no answer."""
    unanswered: tuple[str, ...] = ()
    """Statuses of rows that a model was asked about in vain. A part with answers is not replaced by
    one that has only such rows."""
    leaves: Callable[[Any], Mapping[str, str]] = _nothing
    """What decides, by the parameters, which rows get a status that is not `final`, and so wait
    until it is otherwise: name -> value. It belongs to the fingerprint of a part, and not to the
    key of a row, so that no row with a result is computed again for it."""
    check: Callable[[Any], None] | None = None
    """Raises SurdError where a server that computes for the stage does not answer."""
    upgrades: Mapping[int, Callable[[pa.Table, Any], pa.Table]] = field(default_factory=dict)
    """Earlier version -> what makes today's rows of its rows and the parameters; no model runs."""
    batch_rows: int = 100
    """Rows in a batch. Where the stage `reuses_rows`, as many as in a row group of its parts."""


StageParams = tuple[Stage, Params]
"""A stage with its parameters."""


def settings_fingerprint(stage: Stage, params: Params) -> str:
    """Hash of everything but the inputs: stage, version, each parameter that matters, models."""
    models = [identity(name) for name in stage.models(params) if name is not None]
    parts = [stage.name, stage.version, lasting(params), *([models] if models else [])]
    text = json.dumps(parts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def part_fingerprint(settings: str, inputs: Mapping[str, str]) -> str:
    """Hash of the settings and the digests of the parts read. Equal: nothing to do."""
    text = json.dumps([settings, sorted(inputs.items())])
    return hashlib.sha256(text.encode()).hexdigest()[:32]
