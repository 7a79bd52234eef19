"""Reading a published dataset, wherever it lies."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from surd.dataset.atomic_folder import DESCRIPTION, FOLDER, described
from surd.dataset.columns import EXTENSIONS, LATER, PUBLISHED
from surd.errors import SurdError, WorkspaceError, command, one_line
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
        counts: dict[str, int] = {}
        for file in self.files:
            counts[file["split"]] = counts.get(file["split"], 0) + file["rows"]
        return counts


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
            with _opened(dataset, file["name"]) as parquet:
                known = _known(parquet, columns)
                for batch in parquet.iter_batches(_BATCH_ROWS, columns=known):
                    table = pa.Table.from_batches([batch])
                    _check_rows(dataset, file["name"], table)
                    yield _with_later(table, columns)


def row_reader(
    dataset: Published, split: str, columns: Sequence[str]
) -> Callable[[Sequence[int]], list[dict[str, Any]]]:
    """A function that reads rows by their numbers within the split, in the order asked for.

    A row group is read as a whole, and the last few stay in memory. Both this and the function
    raise WorkspaceError when a file is damaged.
    """
    places: list[tuple[str, int]] = []
    starts: list[int] = []
    rows = 0
    for file in dataset.files:
        if file["split"] == split:
            with _opened(dataset, file["name"]) as parquet:
                for number in range(parquet.num_row_groups):
                    places.append((file["name"], number))
                    starts.append(rows)
                    rows += parquet.metadata.row_group(number).num_rows

    @lru_cache(_KEPT_ROW_GROUPS)
    def row_group(place: int) -> pa.Table:
        name, number = places[place]
        with _opened(dataset, name) as parquet:
            table = parquet.read_row_group(number, columns=_known(parquet, columns))
            _check_rows(dataset, name, table)
            return _with_later(table, columns)

    def read(wanted: Sequence[int]) -> list[dict[str, Any]]:
        found = []
        for row in wanted:
            place = bisect_right(starts, row) - 1
            (one,) = row_group(place).slice(row - starts[place], 1).to_pylist()
            found.append(one)
        return found

    return read


@contextmanager
def _opened(dataset: Published, name: str) -> Iterator[pq.ParquetFile]:
    """A file whose columns are those of a dataset. Raises WorkspaceError, from the block too."""
    try:
        source = dataset.storage.open(name)
        with pq.ParquetFile(source, page_checksum_verification=True) as parquet:
            _check_columns(dataset, name, parquet.schema_arrow)
            yield parquet
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        why = str(error).split("\n", 1)[0]
        raise WorkspaceError(
            f"{dataset.location}/{name}: cannot be read ({why}); delete it and run "
            "surd publish again"
        ) from error


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


def _check_columns(dataset: Published, name: str, schema: pa.Schema) -> None:
    missing = set(PUBLISHED.names) - set(LATER) - set(schema.names)
    if missing:
        raise WorkspaceError(
            f"{dataset.location}/{name}: has no column {', '.join(sorted(missing))}; publish "
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
            f"{dataset.location}/{name}: {wrong[0]} is {type_}, not "
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


def _check_rows(dataset: Published, name: str, table: pa.Table) -> None:
    """Raises WorkspaceError for a sample without id or, where images are read, without image, and
    ArrowInvalid for text that is no UTF-8."""
    table.validate(full=True)
    columns = {key: table[key] for key in ("id", "image") if key in table.column_names}
    if "image" in columns and pa.types.is_struct(columns["image"].type):
        columns["image"] = pc.struct_field(columns["image"], "bytes")
    lost = [key for key, column in columns.items() if column.null_count]
    if lost:
        raise WorkspaceError(
            f"{dataset.location}/{name}: a sample without {lost[0]}; publish it again"
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
