"""Parts: what is written is what is read, however it is cut, and its digest tells any change."""

from __future__ import annotations

import uuid
from itertools import pairwise
from typing import Any

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from surd.store.workspace import Workspace, part_name

NUMBER = st.floats(width=16, allow_nan=False)
WHOLE = st.integers(-2048, 2047)
THREE = st.tuples(WHOLE, WHOLE, WHOLE).map(list)
FIELDS = {
    "text": (pa.string(), st.text(max_size=12)),
    "whole": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "real": (pa.float64(), st.floats(allow_nan=False)),
    "flag": (pa.bool_(), st.booleans()),
    "bytes": (pa.large_binary(), st.binary(max_size=40)),
    "vector": (pa.list_(pa.float16()), st.lists(NUMBER, max_size=4)),
    "three": (pa.list_(pa.float16(), 3), THREE),
    "states": (pa.list_(pa.list_(pa.float16(), 3)), st.lists(THREE, max_size=2)),
    "texts": (pa.list_(pa.string()), st.lists(st.text(max_size=5) | st.none(), max_size=3)),
    "pair": (
        pa.list_(pa.struct([("text", pa.string()), ("n", pa.int32())])),
        st.lists(
            st.fixed_dictionaries({"text": st.text(max_size=4), "n": st.integers(0, 9)}), max_size=2
        ),
    ),
}
SCHEMA = pa.schema([(name, kind) for name, (kind, _) in FIELDS.items()])
ROW = st.fixed_dictionaries({name: st.none() | values for name, (_, values) in FIELDS.items()})
ROWS = st.lists(ROW, max_size=25)
FEW = st.lists(ROW, max_size=6)
"""Two lists of many are more than Hypothesis draws at once."""


def write(workspace: Workspace, table: pa.Table, cuts: list[int], row_group_rows: int) -> str:
    with workspace.writing_part("things", 0, SCHEMA, row_group_rows) as writer:
        bounds = sorted({0, *(min(cut, table.num_rows) for cut in cuts), table.num_rows})
        for first, last in pairwise(bounds):
            writer.write(table.slice(first, last - first))
        writer.describe(fingerprint="f", settings="s", inputs={}, extra={})
    info = workspace.part_info("things", 0)
    assert info is not None
    assert info.rows == table.num_rows
    return info.digest


@settings(max_examples=80)
@given(ROWS, st.lists(st.integers(0, 25), max_size=5), st.integers(1, 9), st.integers(1, 30))
def test_rows_come_back_in_order_however_they_were_cut(
    rows: list[dict[str, Any]], cuts: list[int], row_group_rows: int, batch_rows: int
) -> None:
    workspace = Workspace(f"memory://{uuid.uuid4().hex}")
    table = pa.Table.from_pylist(rows, schema=SCHEMA)
    digest = write(workspace, table, cuts, row_group_rows)
    workspace.verify("things", 0)
    assert workspace.read("things", 0).equals(table)
    batches = list(workspace.read_batches("things", 0, None, batch_rows))
    assert [row for batch in batches for row in batch.to_pylist()] == table.to_pylist()
    assert all(batch.num_rows == batch_rows for batch in batches[:-1])
    groups = list(workspace.salvage("things", 0))
    assert [row for some in groups if some for row in some.to_pylist()] == table.to_pylist()
    once = workspace.storage.read_bytes(part_name("things", 0))
    assert write(workspace, table, [], row_group_rows) == digest
    assert workspace.storage.read_bytes(part_name("things", 0)) == once, "the same bytes"


@settings(max_examples=80)
@given(FEW, FEW)
def test_digests_are_equal_only_when_rows_are(
    some: list[dict[str, Any]], others: list[dict[str, Any]]
) -> None:
    workspace = Workspace(f"memory://{uuid.uuid4().hex}")
    small = [name for name in SCHEMA.names if name != "bytes"]  # their sha256 stands beside them
    one, other = (pa.Table.from_pylist(rows, schema=SCHEMA) for rows in (some, others))
    same = [str(row) for row in one.select(small).to_pylist()] == [
        str(row) for row in other.select(small).to_pylist()
    ]  # as text: 0.0 and -0.0 are different rows
    assert (write(workspace, one, [], 4) == write(workspace, other, [], 4)) == same
