"""How much a column chunk of a Parquet file expands to, read from its page headers.

A footer may say of its chunks what it likes, and Arrow allocates what a page's header says. Headers
are structs of Thrift's compact protocol
(https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift,
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from surd.files.apart import WorkEnded, apart

PLAIN_PAGE_BYTES = 64_000_000
"""A page may expand to so much, whatever it takes in the file."""
MAX_RATIO = 4
"""A larger page may expand to so many times what it takes, as pages of images do not."""
DICTIONARY_BATCH_BYTES = 128_000_000
"""What rows of one batch may take where each of them is the largest value of a dictionary."""
MAX_REPEATS = 200
MAX_REPEATED_BYTES = 1_000_000_000
"""An image may stand in so many rows, or in more that take so much in all."""
_ROWS_PER_BYTE = 100
_FREE_ROWS = 1_000_000
_HEADER_BYTES = 4096
_MAX_HEADER_BYTES = 1 << 24
"""Arrow reads no longer one."""
_DICTIONARY_PAGE = 2
_OF_EVERY_PAGE = {1, 2, 3}
"""Fields of a header without which it is none: its type and sizes. Zeros are no pages."""
_MAX_DEPTH = 16
_TAIL_BYTES = 8
"""Of a file: the length of its footer, and PAR1."""


class BombError(ValueError):
    """A file that expands to far more than it takes, or that claims what it does not hold."""


@dataclass(frozen=True, slots=True)
class Column:
    """What a footer says of a column's chunk in a row group."""

    place: str
    """Its path in the schema, with dots."""
    values: int
    nulls: int | None
    """None where the footer does not say."""
    packed_bytes: int
    expanded_bytes: int
    offset: int
    """Of its first page."""


@dataclass(frozen=True, slots=True)
class Group:
    """What a footer says of a row group."""

    rows: int
    columns: list[Column]


def read_groups(file: BinaryIO) -> list[Group]:
    """The row groups that the footer of a file describes; BombError where that cannot be read.

    They are read in another process: Arrow aborts the one that asks it for certain columns.
    """
    try:
        return apart(_groups_of, _footer(file))
    except (WorkEnded, pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise BombError(f"unreadable columns: {' '.join(str(error).split())[:150]}") from error


def _footer(file: BinaryIO) -> bytes:
    """The end of a file, with which Arrow begins: the footer, its length and the magic bytes."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read(_TAIL_BYTES)
    file.seek(max(0, size - _TAIL_BYTES - int.from_bytes(tail[:4], "little")))
    return file.read()


def _groups_of(footer: bytes) -> list[Group]:
    metadata = pq.read_metadata(io.BytesIO(footer))
    groups = []
    for i in range(metadata.num_row_groups):
        group = metadata.row_group(i)
        columns = [_column_of(group.column(place)) for place in range(group.num_columns)]
        groups.append(Group(group.num_rows, columns))
    return groups


def _column_of(chunk: pq.ColumnChunkMetaData) -> Column:
    offset = chunk.data_page_offset
    if chunk.has_dictionary_page and chunk.dictionary_page_offset is not None:
        offset = min(offset, chunk.dictionary_page_offset)
    return Column(
        chunk.path_in_schema,
        chunk.num_values,
        None if chunk.statistics is None else chunk.statistics.null_count,
        chunk.total_compressed_size,
        chunk.total_uncompressed_size,
        offset,
    )


@dataclass
class Chunk:
    """What the page headers of a chunk say."""

    values: int = 0
    dictionary_values: int = 0
    dictionary_bytes: int = 0
    is_whole: bool = True

    @property
    def repeats(self) -> float:
        """Values for each one in the dictionary."""
        return self.values / max(self.dictionary_values, 1)

    @property
    def expanded_bytes(self) -> float:
        """What all values take where they are as long as those in the dictionary."""
        return self.repeats * self.dictionary_bytes


def check_rows(metadata: pq.FileMetaData, size_bytes: int) -> None:
    """Raises BombError where a file claims more rows than one of its size can hold."""
    rows = sum(metadata.row_group(i).num_rows for i in range(metadata.num_row_groups))
    if metadata.num_rows != rows or not 0 <= rows <= _FREE_ROWS + _ROWS_PER_BYTE * size_bytes:
        raise BombError(f"claims {metadata.num_rows:,} rows in {size_bytes:,} bytes")


def check_group(
    path: Path | str,
    groups: Sequence[Group],
    group: int,
    names: Iterable[str] | None = None,
    *,
    are_images: bool = False,
) -> int:
    """How many rows of a row group may be read at once, for the columns ``names``; None for all.

    Raises BombError where a page would expand beyond all measure, or where there are fewer values
    than rows; for columns of images also where few of them stand in very many rows. Of a file at a
    url nothing but the footer is looked at, since each page would be a request. Where a header is
    damaged, the rows before it are good: Arrow tells of the damage.
    """
    rows = groups[group].rows
    wanted = None if names is None else set(names)
    largest = 1
    for column in groups[group].columns:
        place = column.place
        if wanted is not None and wanted.isdisjoint((place, place.partition(".")[0])):
            continue
        if column.values < rows:
            raise BombError(
                f"row group {group} claims {rows:,} rows, but {place} has {column.values:,} values"
            )
        if "://" in str(path):
            _check_size(column.expanded_bytes, column.packed_bytes, place)
            continue
        with Path(path).open("rb") as file:
            chunk = _walk(file, column)
        if chunk.is_whole and chunk.values < rows:
            raise BombError(
                f"row group {group} claims {rows:,} rows, but {place} has {chunk.values:,} values"
            )
        if are_images and chunk.repeats > MAX_REPEATS and chunk.expanded_bytes > MAX_REPEATED_BYTES:
            raise BombError(f"{place}: {chunk.values:,} rows have the same few images")
        largest = max(largest, chunk.dictionary_bytes)
    return max(1, DICTIONARY_BATCH_BYTES // largest)


def _walk(file: BinaryIO, column: Column) -> Chunk:
    offset, end = column.offset, column.offset + column.packed_bytes
    size = file.seek(0, os.SEEK_END)
    chunk = Chunk()
    while offset < end and chunk.values < column.values:
        header, length = _header(file, offset) if 0 <= offset < size else ({}, 0)
        if not header.keys() >= _OF_EVERY_PAGE:
            chunk.is_whole = False
            break
        packed = _number(header, 3)
        _check_size(_number(header, 2), packed, column.place)
        if _number(header, 1) == _DICTIONARY_PAGE:
            inner = header.get(7)
            chunk.dictionary_bytes += _number(header, 2)
            chunk.dictionary_values += _number(inner if isinstance(inner, dict) else {}, 1)
        else:
            inner = header.get(5) or header.get(8)
            chunk.values += _number(inner if isinstance(inner, dict) else {}, 1)
        offset += length + packed
    return chunk


def _header(file: BinaryIO, offset: int) -> tuple[dict[int, Any], int]:
    """The header of a page, and its length in bytes; 0 where there is none."""
    size = _HEADER_BYTES
    while size <= _MAX_HEADER_BYTES:
        file.seek(offset)
        data = file.read(size)
        reader = _Reader(data)
        try:
            return reader.struct(), reader.at
        except IndexError:
            if len(data) < size:
                break
        except ValueError:
            break
        size *= 16
    return {}, 0


def _check_size(expanded: int, packed: int, place: str) -> None:
    if packed < 0 or not 0 <= expanded <= max(PLAIN_PAGE_BYTES, MAX_RATIO * packed):
        raise BombError(f"{place}: {packed:,} bytes would expand to {expanded:,}")


def _number(struct: dict[int, Any], field: int) -> int:
    value = struct.get(field, 0)
    return value if isinstance(value, int) else 0


class _Reader:
    """Values of the compact protocol. IndexError: the data ends too early; ValueError: it is
    none."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        """Field number -> integer or struct; other values are passed over."""
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            fields[number] = self._value(head & 15, depth + 1)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise ValueError("nested too deep")
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 7:
            return self._pass(8)
        if kind == 8:
            return self._pass(self._varint())
        if kind in (9, 10):
            head = self._byte()
            count = self._varint() if head >> 4 == 15 else head >> 4
            for _ in range(count):
                self._byte() if head & 15 in (1, 2) else self._value(head & 15, depth + 1)
            return None
        if kind == 12:
            return self.struct(depth)
        raise ValueError(f"no type {kind}")

    def _byte(self) -> int:
        self.at += 1
        return self._data[self.at - 1]

    def _pass(self, size: int) -> None:
        self.at += size
        if self.at > len(self._data):
            raise IndexError(size)

    def _varint(self) -> int:
        value = shift = 0
        while shift < 70:
            byte = self._byte()
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value
        raise ValueError("a number too long")

    def _zigzag(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
