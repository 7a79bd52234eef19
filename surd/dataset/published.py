"""Reading a published dataset, wherever it lies."""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from surd.dataset.atomic_folder import DESCRIPTION, FOLDER
from surd.dataset.columns import EXTENSIONS, LATER, PUBLISHED
from surd.dataset.description import described, splits_of
from surd.errors import SurdError, WorkspaceError, command, one_line
from surd.files.parquet_pages import BombError, Group, check_group, check_rows, read_groups
from surd.store.part_columns import check_texts
from surd.store.storage import Storage

_BATCH_ROWS = 100
_KEPT_ROW_GROUPS = 4
_FILE_NAME = re.compile(rf"([0-9a-f]{{32}})\.({'|'.join(EXTENSIONS.values())})")


@dataclass(frozen=True)
class Published:
    """A complete dataset, as ``surd publish`` leaves it."""

    location: str
    storage: Storage
    files: tuple[dict[str, Any], ...]

    @property
    def splits(self) -> dict[str, int]:
        """Split -> samples."""
        return {split: counts["rows"] for split, counts in splits_of(self.files).items()}


def open_published(location: str) -> Published:
    """The dataset of a workspace, or the folder of a dataset itself. Raises SurdError."""
    for place in (location, f"{location.rstrip('/')}/{FOLDER}"):
        storage = Storage(place)
        try:
            said = described(storage.read_bytes(DESCRIPTION))
            if not said.get("complete"):
                raise SurdError(
                    f"{place}: was left half replaced; finish with: {command('publish', location)}"
                )
            return Published(place, storage, tuple(said["files"]))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except ValueError as error:
            raise SurdError(
                f"{place}/{DESCRIPTION}: unreadable ({error}); delete it and run surd publish again"
            ) from error
    raise SurdError(
        f"{location}: has no published dataset; first run: {command('publish', location)}"
    )


def batches(
    dataset: Published, split: str, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """The split's rows in order, some at a time. Raises WorkspaceError when a file is damaged."""
    for file in dataset.files:
        if file["split"] == split:
            with opened(dataset, file) as shard:
                for table in shard.batches(_known(shard.parquet, columns), _BATCH_ROWS):
                    yield _with_later(table, columns)


def row_reader(
    dataset: Published, split: str, columns: Sequence[str]
) -> Callable[[Sequence[int]], list[dict[str, Any]]]:
    """A function that reads rows by their numbers within the split, in the order asked for.

    A row group is read as a whole, and the last few stay in memory. Both this and the function
    raise WorkspaceError when a file is damaged.
    """
    places: list[tuple[dict[str, Any], Sequence[Group], int]] = []
    starts: list[int] = []
    rows = 0
    for file in dataset.files:
        if file["split"] == split:
            with opened(dataset, file) as shard:
                for number, group in enumerate(shard.groups):
                    places.append((file, shard.groups, number))
                    starts.append(rows)
                    rows += group.rows

    @lru_cache(_KEPT_ROW_GROUPS)
    def row_group(place: int) -> pa.Table:
        file, groups, number = places[place]
        with opened(dataset, file, groups) as shard:
            table = shard.row_group(number, _known(shard.parquet, columns))
            return _with_later(table, columns)

    def read(wanted: Sequence[int]) -> list[dict[str, Any]]:
        found = []
        for row in wanted:
            place = bisect_right(starts, row) - 1
            (one,) = row_group(place).slice(row - starts[place], 1).to_pylist()
            found.append(one)
        return found

    return read


@dataclass(frozen=True)
class Shard:
    """A file of a dataset that is open for reading."""

    where: str
    """Its path or url."""
    parquet: pq.ParquetFile
    groups: Sequence[Group]

    def batches(self, columns: Sequence[str] | None, rows: int) -> Iterator[pa.Table]:
        """All rows, at most so many at a time."""
        for number in range(len(self.groups)):
            at_once = min(
                rows, check_group(self.where, self.groups, number, columns, are_images=True)
            )
            for batch in self.parquet.iter_batches(at_once, [number], columns=columns):
                yield self._checked(pa.Table.from_batches([batch]))

    def row_group(self, number: int, columns: Sequence[str] | None) -> pa.Table:
        """The rows of one row group."""
        check_group(self.where, self.groups, number, columns, are_images=True)
        return self._checked(self.parquet.read_row_group(number, columns=columns))

    def _checked(self, table: pa.Table) -> pa.Table:
        """Raises WorkspaceError for a sample without id or, where images are read, without image,
        and ArrowInvalid for text that is no UTF-8."""
        check_texts(table)
        columns = {key: table[key] for key in ("id", "image") if key in table.column_names}
        if "image" in columns and pa.types.is_struct(columns["image"].type):
            columns["image"] = pc.struct_field(columns["image"], "bytes")
        lost = [key for key, column in columns.items() if column.null_count]
        if lost:
            raise WorkspaceError(f"{self.where}: a sample without {lost[0]}; publish it again")
        return table


@contextmanager
def opened(
    dataset: Published, file: Mapping[str, Any], groups: Sequence[Group] | None = None
) -> Iterator[Shard]:
    """One of its files, whose columns are those of a dataset; `groups` are given where they were
    read before. Raises WorkspaceError, from the block too."""
    name = file["name"]
    where = f"{dataset.location}/{name}"
    try:
        if groups is None:
            groups = _groups(dataset, file)
        source = dataset.storage.open(name)
        with pq.ParquetFile(source, page_checksum_verification=True) as parquet:
            _check_columns(where, parquet.schema_arrow)
            path = dataset.storage.path(name) if dataset.storage.is_local else where
            yield Shard(path, parquet, groups)
    except (pa.ArrowException, OSError, UnicodeDecodeError, BombError) as error:
        raise WorkspaceError(
            f"{where}: cannot be read ({one_line(error)}); delete it and run surd publish again"
        ) from error


def _groups(dataset: Published, file: Mapping[str, Any]) -> Sequence[Group]:
    """The file's row groups. Raises BombError where it claims what it cannot hold, or has other
    rows than its description says, and OSError for a pipe."""
    with dataset.storage.open_binary(file["name"]) as binary:
        groups = read_groups(binary)
        check_rows(pq.read_metadata(binary), binary.seek(0, os.SEEK_END))
    rows = sum(group.rows for group in groups)
    if rows != file["rows"]:
        raise BombError(f"has {rows:,} rows, but {DESCRIPTION} says {file['rows']:,}")
    return groups


def _known(parquet: pq.ParquetFile, columns: Sequence[str] | None) -> list[str] | None:
    """Those of the columns that the file has."""
    if columns is None:
        return None
    names = parquet.schema_arrow.names
    return [name for name in columns if name not in LATER or name in names]


def _with_later(table: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    """With the columns that a file of an earlier version lacks, null, each in its place."""
    for place, name in enumerate(PUBLISHED.names if columns is None else columns):
        if name in LATER and name not in table.column_names:
            nulls = pa.nulls(table.num_rows, PUBLISHED.field(name).type)
            table = table.add_column(place, PUBLISHED.field(name), nulls)
    return table


def _check_columns(where: str, schema: pa.Schema) -> None:
    missing = set(PUBLISHED.names) - set(LATER) - set(schema.names)
    if missing:
        raise WorkspaceError(
            f"{where}: has no column {', '.join(sorted(missing))}; publish "
            "it again with this version of surd"
        )
    wrong = [
        field.name
        for field in PUBLISHED
        if field.name in schema.names and not _is_alike(schema.field(field.name).type, field.type)
    ]
    if wrong:
        type_ = one_line(schema.field(wrong[0]).type, 100)
        raise WorkspaceError(
            f"{where}: {wrong[0]} is {type_}, not "
            f"{PUBLISHED.field(wrong[0]).type}; publish it again with this version of surd"
        )


def _is_alike(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether one type's values are in Python as another's: other libraries write larger ones, and
    null for a column without values."""
    types = pa.types
    if types.is_null(found):
        return True
    if types.is_struct(wanted):
        names = [wanted.field(i).name for i in range(wanted.num_fields)]
        return bool(types.is_struct(found)) and all(
            found.get_field_index(name) >= 0
            and _is_alike(found.field(name).type, wanted.field(name).type)
            for name in names
        )
    kinds = (
        (types.is_string, types.is_large_string),
        (types.is_binary, types.is_large_binary),
        (types.is_integer, types.is_floating),
    )
    return any(
        any(is_kind(found) for is_kind in kind) and any(is_kind(wanted) for is_kind in kind)
        for kind in kinds
    )


@dataclass(frozen=True, slots=True)
class Picture:
    """One sample: what its file may be called, its bytes, and its other columns."""

    id: str
    extension: str
    data: bytes
    fields: dict[str, Any]


def pictures(dataset: Published, split: str) -> Iterator[Picture]:
    """The split's samples, one by one. Raises SurdError where an id could lead astray."""
    for table in batches(dataset, split):
        for row in table.to_pylist():
            image = row.pop("image")
            match = _FILE_NAME.fullmatch(image["path"] or "")
            if match is None or match[1] != row["id"]:
                raise SurdError(
                    f"{dataset.location}: sample {row['id']!r:.80} does not have an id as "
                    "surd writes them; publish the dataset again"
                )
            yield Picture(match[1], match[2], image["bytes"], row)
