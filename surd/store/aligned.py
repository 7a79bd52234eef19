"""The one reader of aligned parts: part i of every group holds the same samples in the same order.

Whoever reads several groups of a part reads them here, so that a part of other samples, as a file
copied from elsewhere has them, is refused everywhere and in the same words.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from surd.store.schema import GROUPS
from surd.store.workspace import DamagedPartError, MissingPartError, Workspace, part_name

Columns = Mapping[str, Sequence[str]]
"""Group -> its columns that are read; ``id`` is read of each without being named."""
Parts = Mapping[str, frozenset[int]]
"""Group -> the parts it has."""


def parts_there(workspace: Workspace, groups: Iterable[str]) -> Parts:
    """The parts each group has, found out once: on an object store every look is a request."""
    return {group: frozenset(workspace.parts(group)) for group in groups}


def read_aligned(
    workspace: Workspace,
    part: int,
    columns: Columns,
    *,
    there: Parts | None = None,
    with_ids: bool = True,
) -> dict[str, pa.Table]:
    """Group -> the columns asked for after ``id``, a row for each sample of the part. Without
    `with_ids`, ``id`` is left out, and not read where footers say that all have the same.

    Without `there`, every group must have the part. With it, whoever looks at a workspace sees how
    far each stage has come: rows that a group does not have yet are null, be it that the part is
    not among `there`, or that samples were added to it since.

    Raises DamagedPartError where a group holds other samples than the first one, MissingPartError
    where it has none.
    """
    tables: dict[str, pa.Table] = {}
    ids: pa.ChunkedArray | None = None
    first = next(iter(columns))
    if not with_ids:
        if all(columns.values()) and _say_the_same(workspace, part, *columns):
            tables = {group: workspace.read(group, part, asked) for group, asked in columns.items()}
            if len({len(table) for table in tables.values()}) == 1:  # else one was replaced
                return tables
        tables = read_aligned(workspace, part, columns, there=there)
        return {group: table.drop_columns(["id"]) for group, table in tables.items()}
    for group, asked in columns.items():
        names = [name for name in asked if name != "id"]
        if there is not None and part not in there.get(group, ()) and ids is not None:
            tables[group] = _nulls(group, names, ids)
            continue
        if ids is not None and _say_the_same(workspace, part, first, group):
            table = workspace.read(group, part, names) if names else pa.table({"id": ids})
            if len(table) == len(ids):  # else it was replaced meanwhile
                id_ = tables[first].schema.field("id")
                tables[group] = table.select(names).add_column(0, id_, ids)
                continue
        table = workspace.read(group, part, ["id", *names])
        if ids is None:
            ids = table["id"]
        elif not _same_samples(table["id"], ids, shorter=there is not None):
            raise _other_samples(workspace, group, part, first)
        elif len(table) < len(ids):
            rest = _nulls(group, names, ids.slice(len(table)))
            table = pa.concat_tables([table, rest], promote_options="permissive")
        tables[group] = table
    return tables


def read_batches_aligned(
    workspace: Workspace,
    part: int,
    columns: Columns,
    batch_rows: int,
    *,
    rows: npt.NDArray[np.int64] | None = None,
) -> Iterator[dict[str, pa.Table]]:
    """As :func:`read_aligned` without `there`, `batch_rows` at a time (the last may be fewer).

    With `rows`, ``[n]`` in ascending order, these alone.
    """
    streams = [
        workspace.read_batches(group, part, ("id", *names), batch_rows)
        if rows is None
        else workspace.read_rows(group, part, ("id", *names), rows, batch_rows)
        for group, names in columns.items()
    ]
    first = next(iter(columns))
    while True:
        tables = {group: next(stream, None) for group, stream in zip(columns, streams, strict=True)}
        head = tables[first]
        for group, table in tables.items():
            if (table is None) != (head is None) or (
                table is not None and head is not None and not table["id"].equals(head["id"])
            ):
                raise _other_samples(workspace, group, part, first)
        if head is None:
            return
        yield {group: table for group, table in tables.items() if table is not None}


def side_by_side(tables: Mapping[str, pa.Table]) -> pa.Table:
    """Aligned tables as one: ``id``, then the columns of each group.

    A name that an earlier group has already becomes ``group.name``.
    """
    joined: pa.Table | None = None
    for group, table in tables.items():
        if joined is None:
            joined = table
            continue
        for name in table.column_names[1:]:
            known = name in joined.column_names
            field = table.schema.field(name).with_name(f"{group}.{name}" if known else name)
            joined = joined.append_column(field, table[name])
    assert joined is not None
    return joined


def check_samples(workspace: Workspace, group: str, part: int, ids: pa.ChunkedArray) -> None:
    """Raise DamagedPartError where a part has other samples than those of the workspace; it may
    lack those that were added since."""
    if part in workspace.parts("samples"):
        samples = workspace.read("samples", part, ["id"])["id"]
        if not _same_samples(ids, samples, shorter=True):
            raise _other_samples(workspace, group, part, "samples")


class ReadsAround(Protocol):
    """A workspace, or whoever keeps what it has read of one."""

    location: str

    def read_around(
        self, group: str, part: int, row: int, columns: Sequence[str]
    ) -> tuple[int, pa.Table]:
        """As :meth:`Workspace.read_around`."""


def read_row(
    reader: ReadsAround, part: int, row: int, columns: Columns
) -> dict[str, dict[str, Any]]:
    """Group -> the values of one row, ``id`` among them; nothing of groups that lack the row.

    Raises DamagedPartError where a group holds another sample there than the first one.
    """
    found: dict[str, dict[str, Any]] = {}
    id_: str | None = None
    for group, names in columns.items():
        wanted = ["id", *(name for name in names if name != "id")]
        try:
            first, table = reader.read_around(group, part, row, wanted)
        except MissingPartError:
            found[group] = {}
            continue
        values: dict[str, Any] = table.slice(row - first, 1).to_pylist()[0]
        id_ = id_ or values["id"]
        if values["id"] != id_:
            raise _other_samples(reader, group, part, next(iter(columns)))
        found[group] = values
    return found


def _say_the_same(workspace: Workspace, part: int, *groups: str) -> bool:
    """Whether the footers say that the groups have the same ids, so that one need not read them
    again; of a remote store each look would be a request."""
    if not workspace.storage.is_local:
        return False
    infos = [workspace.part_info(group, part) for group in groups]
    said = {info.ids if info else "" for info in infos}
    return len(said) == 1 and said != {""}


def _same_samples(ids: pa.ChunkedArray, expected: pa.ChunkedArray, *, shorter: bool) -> bool:
    """Whether the ids are those expected; with `shorter`, the first of them will do."""
    if shorter and len(ids) < len(expected):
        expected = expected.slice(0, len(ids))
    return bool(ids.equals(expected))


def _nulls(group: str, names: Sequence[str], ids: pa.ChunkedArray) -> pa.Table:
    schema = GROUPS[group]
    columns = {name: pa.nulls(len(ids), schema.field(name).type) for name in names if name != "id"}
    return pa.table({"id": ids} | columns)


def _other_samples(
    workspace: Workspace | ReadsAround, group: str, part: int, first: str
) -> DamagedPartError:
    why = f"its samples are not those of {part_name(first, part)}"
    return DamagedPartError(workspace.location, group, part, why)
