"""Reading some columns of a remote Parquet file in one go.

Small columns lie in many places: a chunk for each row group. Asked for one after the other they
take a round trip each; here all are asked for at once, near ones together.
"""

from __future__ import annotations

import io
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow.parquet as pq

_GAP_BYTES = 65_536
"""Less than this between two ranges costs less to read than another request."""


class Ranges(io.RawIOBase):
    """A file of which some ranges are in memory; what else is read is asked for."""

    def __init__(self, fs: Any, path: str, ranges: Sequence[tuple[int, int]]) -> None:
        self._fs, self._path = fs, path
        self._starts = [start for start, _ in ranges]
        ends = [end for _, end in ranges]
        self._contents = fs.cat_ranges([path] * len(ranges), self._starts, ends, on_error="raise")
        self._at = 0

    def readable(self) -> bool:
        """It is."""
        return True

    def seekable(self) -> bool:
        """It is."""
        return True

    def tell(self) -> int:
        """Where the next byte is read."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move there."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at}.get(whence)
        self._at = offset + (self._fs.size(self._path) if base is None else base)
        return self._at

    def read(self, size: int = -1) -> bytes:
        """So many bytes, or all that are left."""
        end = self._fs.size(self._path) if size < 0 else self._at + size
        number = bisect_right(self._starts, self._at) - 1
        skip = self._at - self._starts[number] if number >= 0 else 0
        if number >= 0 and end <= self._starts[number] + len(self._contents[number]):
            data: bytes = self._contents[number][skip : skip + end - self._at]
        else:
            data = self._fs.cat_file(self._path, self._at, end)
        self._at += len(data)
        return data


def at_hand(
    fs: Any, path: str, file: Any, footer: pq.FileMetaData, columns: Sequence[str] | None
) -> Any:
    """``file``, or one that has the bytes of ``columns`` already."""
    return Ranges(fs, path, column_ranges(footer, columns)) if columns else file


def column_ranges(footer: pq.FileMetaData, columns: Sequence[str]) -> list[tuple[int, int]]:
    """Where the chunks of top-level ``columns`` begin and end, near ones together."""
    wanted = set(columns)
    ranges = []
    for group in range(footer.num_row_groups):
        about = footer.row_group(group)
        for number in range(about.num_columns):
            chunk = about.column(number)
            if chunk.path_in_schema.partition(".")[0] in wanted:
                start = chunk.dictionary_page_offset or chunk.data_page_offset
                ranges.append((start, start + chunk.total_compressed_size))
    return list(merged(sorted(ranges)))


def merged(ranges: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Sorted ranges, those that are near each other as one."""
    last: tuple[int, int] | None = None
    for start, end in ranges:
        if last is not None and start - last[1] <= _GAP_BYTES:
            last = (last[0], max(last[1], end))
            continue
        if last is not None:
            yield last
        last = (start, end)
    if last is not None:
        yield last
