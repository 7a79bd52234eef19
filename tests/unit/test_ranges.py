"""Some columns of a remote Parquet file, with as few requests as their places allow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from surd.store.column_ranges import with_columns

ROWS, GROUP_ROWS = 40, 10


class Counting:
    """A file system of one file that notes what is asked of it."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.asked: list[list[tuple[int, int]]] = []

    def cat_ranges(self, paths: Any, starts: Any, ends: Any, on_error: str) -> list[bytes]:
        assert on_error == "raise" and len(paths) == len(starts)
        self.asked.append(list(zip(starts, ends, strict=True)))
        return [self.data[start:end] for start, end in self.asked[-1]]


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
    source = with_columns(fs, "p", io.BytesIO(data), footer, ["id", "places"])
    read = pq.ParquetFile(source, metadata=footer).read(columns=["id", "places"])
    assert read.equals(table.select(["id", "places"]))
    (asked,) = fs.asked
    assert len(asked) == ROWS // GROUP_ROWS + 1  # of two chunks that are near each other, one
    assert sum(end - start for start, end in asked) < len(data) / 20


def test_a_column_that_was_not_asked_for_is_refused_and_not_read_as_zeros() -> None:
    _, data = parquet()
    footer = pq.read_metadata(io.BytesIO(data))
    source = with_columns(Counting(data), "p", io.BytesIO(data), footer, ["id"])
    with pytest.raises((ValueError, UserWarning)):  # as fsspec's versions have it
        pq.ParquetFile(source, metadata=footer).read(columns=["bytes"])


def test_a_part_without_rows_is_read() -> None:
    table, _ = parquet()
    buffer = io.BytesIO()
    pq.write_table(table.slice(0, 0), buffer)
    footer = pq.read_metadata(io.BytesIO(buffer.getvalue()))
    source = with_columns(Counting(buffer.getvalue()), "p", buffer, footer, ["id"])
    assert pq.ParquetFile(source, metadata=footer).read(columns=["id"]).num_rows == 0
