"""Some columns of a remote Parquet file, with as few requests as their places allow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from surd.store.column_ranges import Ranges, column_ranges, merged

ROWS, GROUP_ROWS = 40, 10


class Counting:
    """A file system of one file that notes what is asked of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[list[tuple[int, int]]] = []

    def cat_ranges(self, paths: Any, starts: Any, ends: Any, on_error: str) -> list[bytes]:
        self.asked.append(list(zip(starts, ends, strict=True)))
        return [self.data[start:end] for start, end in self.asked[-1]]

    def cat_file(self, path: str, start: int, end: int) -> bytes:
        self.asked.append([(start, end)])
        return self.data[start:end]

    def size(self, path: str) -> int:
        return len(self.data)


def parquet() -> tuple[pa.Table, bytes]:
    """Two small columns beside one that keeps row groups far apart."""
    rng = np.random.default_rng(0)
    table = pa.table(
        {
            "id": [f"id {i}" for i in range(ROWS)],
            "bytes": [rng.bytes(10_000) for _ in range(ROWS)],
            "places": [[{"x": i}] for i in range(ROWS)],
        }
    )
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=GROUP_ROWS)
    return table, buffer.getvalue()


def test_all_chunks_of_some_columns_come_with_one_round_of_requests() -> None:
    table, data = parquet()
    footer = pq.read_metadata(io.BytesIO(data))
    fs = Counting(data)
    source = Ranges(fs, "p", column_ranges(footer, ["id", "places"]))
    read = pq.ParquetFile(source, metadata=footer).read(columns=["id", "places"])
    assert read.equals(table.select(["id", "places"]))
    (asked,) = fs.asked
    assert len(asked) == ROWS // GROUP_ROWS + 1
    assert sum(end - start for start, end in asked) < len(data) / 20


def test_what_was_not_fetched_before_is_asked_for() -> None:
    data = bytes(range(100))
    fs = Counting(data)
    file = Ranges(fs, "p", [(10, 20), (50, 60)])
    for start, size in ((10, 10), (52, 3), (0, 5), (15, 10), (95, 5)):
        file.seek(start)
        assert file.read(size) == data[start : start + size]
        assert file.tell() == start + size
    assert fs.asked[1:] == [[(0, 5)], [(15, 25)], [(95, 100)]]
    assert file.seek(-3, io.SEEK_END) == 97
    assert file.read() == data[97:]


def test_ranges_that_are_near_each_other_become_one() -> None:
    assert list(merged([(0, 10), (20, 30), (200_000, 200_010)])) == [(0, 30), (200_000, 200_010)]
    assert list(merged([])) == []
