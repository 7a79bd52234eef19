"""Files that hold images: zip archives, tar archives, and Parquet columns of bytes.

Each is read in place and never unpacked; a read returns no more bytes than it is asked for.
"""

from __future__ import annotations

import bisect
import threading
import zipfile
from collections import deque
from collections.abc import Iterator
from contextlib import nullcontext
from itertools import accumulate
from pathlib import Path
from typing import Any, ClassVar, Protocol

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from surd.files.parquet_pages import BombError, check_group, check_rows, read_groups
from surd.files.tar_members import members
from surd.untrusted import open_regular

TABLE_SUFFIXES = (".parquet", ".pq")
PLAIN_ZIP = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
"""What is read of a zip: of other methods Python expands without bound whatever it is given."""
_BATCH_ROWS = 4
_WINDOW_BYTES = 64_000_000
_WINDOW_ROWS = 256
_JUMP_ROWS = 64
"""Fewer rows are read to come to a row further on: another thread will ask for them."""


class Archive(Protocol):
    """An open file that holds others. Safe in threads, except for ``close``."""

    max_open: ClassVar[int]
    """How many of this kind may be open at once."""

    def head(self, member: str, size: int) -> bytes:
        """The first ``size`` bytes of a member. KeyError: there is no such member."""

    def close(self) -> None:
        """Free what it holds."""


def open_archive(path: str) -> Archive:
    """The file at ``path``, by its name: tar, Parquet (also at a url of fsspec's), else zip.

    Raises OSError for what is no regular file, and what the archive's own reader raises.
    """
    if "://" not in path:
        open_regular(path).close()
    if path.lower().endswith(TABLE_SUFFIXES):
        return _Table(path)
    return _Tar(path) if path.lower().endswith(".tar") else _Zip(path)


class _Zip:
    max_open: ClassVar[int] = 32

    def __init__(self, path: str) -> None:
        self._archive = zipfile.ZipFile(path)

    def head(self, member: str, size: int) -> bytes:
        info = self._archive.getinfo(member)
        if info.compress_type not in PLAIN_ZIP:
            raise ValueError("neither stored nor deflated; write the zip anew with one of these")
        with self._archive.open(info) as stream:
            return stream.read(size)

    def close(self) -> None:
        self._archive.close()


class _Tar:
    """Where each member begins is read once; of two of the same name the first counts."""

    max_open: ClassVar[int] = 8

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._places: dict[str, tuple[int, int]] = {}
        self._damage = ""
        try:
            for member in members(self._path):
                self._places.setdefault(member.name, (member.offset, member.size))
        except ValueError as error:  # what comes before the damage is good
            self._damage = str(error)

    def head(self, member: str, size: int) -> bytes:
        if member not in self._places and self._damage:
            raise ValueError(self._damage)
        offset, member_size = self._places[member]
        with self._path.open("rb") as file:
            file.seek(offset)
            return file.read(min(size, member_size))

    def close(self) -> None:
        self._places.clear()


class _Table:
    """Cells of Parquet columns; a member is ``COLUMN/ROW``, rows counted from 0.

    The column holds bytes, or structs with ``bytes`` as the library datasets writes them, or lists
    of such structs, whose items are ``COLUMN/ROW/ITEM``. Rows
    are mostly asked for in order, so the file is read on from the last one, a few rows at a time;
    the latest are kept for threads that ask out of turn.
    """

    max_open: ClassVar[int] = 2

    def __init__(self, path: str) -> None:
        source: Any = fsspec.open(path, "rb").open() if "://" in path else path
        self._path = path
        self._file = pq.ParquetFile(source, buffer_size=1 << 20, pre_buffer=False)
        metadata = self._file.metadata
        if source is path:
            check_rows(metadata, Path(path).stat().st_size)
        with Path(path).open("rb") if source is path else nullcontext(source) as file:
            self._groups = read_groups(file)
        self._starts = [0, *accumulate(group.rows for group in self._groups)]
        self._lock = threading.Lock()
        self._column = ""
        self._batches: Iterator[pa.RecordBatch] = iter(())
        self._next_row = 0
        self._window: deque[tuple[int, pa.Array]] = deque()
        self._broken: dict[int, int] = {}
        """Row group -> the row from which on it cannot be read."""

    def head(self, member: str, size: int) -> bytes:
        column, _, number = member.rpartition("/")
        item = ""
        if column not in self._file.schema_arrow.names:
            item = number
            column, _, number = column.rpartition("/")
        if not number.isdecimal() or int(number) >= self._starts[-1]:
            raise KeyError(member)
        with self._lock:
            cell = self._cell(column, int(number))
        if item and cell.is_valid and item.isdecimal() and int(item) < len(cell.values):
            cell = cell.values.flatten()[0][int(item)]
        elif item:
            raise KeyError(member)
        if not cell.is_valid:
            raise KeyError(member)
        return memoryview(cell.as_buffer())[:size].tobytes()

    def close(self) -> None:
        self._window.clear()
        self._file.close(force=True)

    def _cell(self, column: str, row: int) -> Any:
        group = bisect.bisect_right(self._starts, row) - 1
        if row >= self._broken.get(group, row + 1):
            raise ValueError(f"row group {group} is damaged")
        if column != self._column or not self._window or row < self._window[0][0]:
            self._restart(column, group)
        elif self._starts[group] > self._next_row + _JUMP_ROWS:
            self._restart(column, group, keep_window=True)
        while row >= self._next_row:
            self._advance()
        for first, cells in reversed(self._window):
            if first <= row:
                return cells[row - first] if row - first < len(cells) else self._again(column, row)
        return self._again(column, row)

    def _again(self, column: str, row: int) -> Any:
        """A row in a gap of the window, which jumps leave."""
        self._window.clear()
        return self._cell(column, row)

    def _restart(self, column: str, group: int, *, keep_window: bool = False) -> None:
        leaf = _leaf(self._file.schema_arrow, column)
        if not keep_window:
            self._window.clear()
        self._column, self._next_row = column, self._starts[group]
        groups = range(group, len(self._starts) - 1)
        self._batches = (  # by row group, since a batch of two would fail for either
            batch for i in groups for batch in self._group_batches(i, leaf)
        )

    def _group_batches(self, group: int, leaf: str) -> Iterator[pa.RecordBatch]:
        at_once = check_group(self._path, self._groups, group, [leaf], are_images=True)
        rows = min(_BATCH_ROWS, at_once)
        yield from self._file.iter_batches(rows, [group], [leaf])

    def _advance(self) -> None:
        try:
            batch = next(self._batches)
        except MemoryError:  # Arrow's among them
            raise
        except (pa.ArrowException, OSError, StopIteration, BombError) as error:
            self._broken[bisect.bisect_right(self._starts, self._next_row) - 1] = self._next_row
            self._window.clear()
            raise ValueError(f"damaged ({' '.join(str(error).split())[:150]})") from error
        cells = batch.column(0)
        if pa.types.is_struct(cells.type):
            cells = cells.flatten()[0]
        self._window.append((self._next_row, cells))
        self._next_row += len(cells)
        while len(self._window) > 1 and self._window_is_full():
            self._window.popleft()

    def _window_is_full(self) -> bool:
        rows = sum(len(cells) for _, cells in self._window)
        return rows > _WINDOW_ROWS or sum(c.nbytes for _, c in self._window) > _WINDOW_BYTES


def _leaf(schema: pa.Schema, column: str) -> str:
    """Path of the column's bytes. KeyError: it has none."""
    field = schema.field(column)
    if holds_bytes(field.type):
        return column
    if is_image(field.type):
        return leaf_of(column, field.type, "bytes")
    raise KeyError(column)


def leaf_of(column: str, type_: pa.DataType, name: str) -> str:
    """Path in Parquet of a field of a column of images, or of lists of images."""
    return f"{column}.list.element.{name}" if pa.types.is_list(type_) else f"{column}.{name}"


def is_image(type_: pa.DataType) -> bool:
    """Whether a column of this type holds images as the library datasets has them, or lists."""
    if pa.types.is_list(type_):
        type_ = type_.value_type
    if not pa.types.is_struct(type_):
        return False
    index = type_.get_field_index("bytes")
    return index >= 0 and holds_bytes(type_.field(index).type)


def holds_bytes(type_: pa.DataType) -> bool:
    """Whether a column of this type holds bytes."""
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))
