"""The digest of a part's rows: equal for equal rows, however Arrow holds them, and only then."""

from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from surd.store import part_writer
from surd.store.checksums import Summed
from surd.store.part_writer import PartWriter

_PAIR = pa.struct([pa.field("text", pa.string()), pa.field("n", pa.float64())])
_DIFFERENT = {
    pa.string(): [["ab", ""], ["a", "b"], ["", "ab"], ["ab", None], [None, "ab"]],
    pa.int32(): [[0, 1], [None, 1], [1, 0], [1, None]],
    pa.bool_(): [[True, False], [False, True], [None, True], [False, None]],
    pa.list_(pa.string()): [[["a", "b"], []], [["a"], ["b"]], [["ab"], []], [None, ["a", "b"]]],
    pa.list_(pa.float16()): [
        [np.float16([1, 2]), np.float16([])],
        [np.float16([1]), np.float16([2])],
        [None, np.float16([1, 2])],
    ],
    pa.list_(pa.float16(), 2): [
        [np.float16([1, 2]), np.float16([3, 4])],
        [np.float16([3, 4]), np.float16([1, 2])],
        [None, np.float16([1, 2])],
        [np.float16([1, 2]), None],
    ],
    pa.list_(_PAIR): [
        [[{"text": "a", "n": 1.0}], []],
        [[{"text": "a", "n": None}], []],
        [[{"text": None, "n": 1.0}], []],
        [[None], []],
        [[None], None],
        [[], [{"text": "a", "n": 1.0}]],
    ],
}


def digest(folder: Path, column: pa.Array) -> str:
    schema = pa.schema([pa.field("column", column.type)])
    writer = PartWriter(folder / "part.parquet", schema, 10)
    writer.write(pa.table([column], schema=schema))
    writer.finish()
    writer.close()
    return writer.digest


@pytest.mark.parametrize("type_", _DIFFERENT, ids=str)
def test_different_rows_have_different_digests(type_: pa.DataType, tmp_path: Path) -> None:
    for one, other in combinations(_DIFFERENT[type_], 2):
        left, right = pa.array(one, type_), pa.array(other, type_)
        assert digest(tmp_path, left) != digest(tmp_path, right), (one, other)


@pytest.mark.parametrize("type_", _DIFFERENT, ids=str)
def test_rows_cut_from_a_longer_column_have_the_digest_of_the_same_rows_alone(
    type_: pa.DataType, tmp_path: Path
) -> None:
    every = [value for rows in _DIFFERENT[type_] for value in rows]
    cut = pa.array(every, type_).slice(1, 3)
    alone = pa.array(every[1:4], type_)
    assert digest(tmp_path, cut) == digest(tmp_path, alone)


def test_what_lies_in_the_slot_of_a_null_does_not_count(tmp_path: Path) -> None:
    valid = pa.py_buffer(bytes([0b01]))
    hidden = pa.Array.from_buffers(pa.int32(), 2, [valid, pa.py_buffer(np.int32([1, 7]))])
    offsets = pa.py_buffer(np.int32([0, 1, 3]))
    text = pa.Array.from_buffers(pa.string(), 2, [valid, offsets, pa.py_buffer(b"axx")])
    struct = pa.StructArray.from_arrays([hidden], names=["n"], mask=pa.array([False, True]))
    for one in (hidden, text, struct):
        assert digest(tmp_path, one) == digest(tmp_path, pa.array(one.to_pylist(), one.type))


def test_files_have_pages_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []

    class Watched(Summed):
        def write(self, data: Any) -> int:
            sizes.append(len(data))
            return super().write(data)

    monkeypatch.setattr(part_writer, "Summed", Watched)
    schema = pa.schema([pa.field("id", pa.string()), pa.field("bytes", pa.large_binary())])
    files = [bytes([n]) * 100_000 for n in range(20)]
    writer = PartWriter(tmp_path / "part.parquet", schema, 64)
    writer.write(pa.table([[f"{n:032x}" for n in range(20)], files], schema=schema))
    writer.finish()
    writer.close()
    assert max(sizes) < 101_000
    assert pq.read_table(tmp_path / "part.parquet")["bytes"].to_pylist() == files


def test_rows_in_chunks_make_the_same_file_as_rows_in_one(tmp_path: Path) -> None:
    schema = pa.schema([pa.field("id", pa.string()), pa.field("bytes", pa.large_binary())])
    ids = [f"{n:032x}" for n in range(200)]
    files = [None if n % 7 == 3 else bytes([n]) * (n * 700) for n in range(200)]
    rows = [[[one_id], [file]] for one_id, file in zip(ids, files, strict=True)]
    written = []
    for name, columns in {"one": [[ids, files]], "chunks": rows}.items():
        writer = PartWriter(tmp_path / name, schema, 64)
        writer.write(pa.concat_tables([pa.table(some, schema=schema) for some in columns]))
        writer.finish()
        writer.close()
        written.append((tmp_path / name).read_bytes())
    assert written[0] == written[1]
    assert pq.read_table(tmp_path / "chunks")["bytes"].to_pylist() == files


def test_texts_that_seldom_repeat_have_no_dictionary(tmp_path: Path) -> None:
    texts = {"source": pa.array(["folder"] * 500), "prompt": pa.array(map(str, range(500)))}
    table = pa.table(texts)
    writer = PartWriter(tmp_path / "part.parquet", table.schema, None)
    writer.write(table)
    writer.finish()
    writer.close()
    written = pq.read_metadata(tmp_path / "part.parquet").row_group(0)
    assert [written.column(n).has_dictionary_page for n in (0, 1)] == [True, False]


@pytest.mark.parametrize(
    ("type_", "sizes"), [(pa.string(), [130]), (pa.large_binary(), [64, 64, 2])]
)
def test_row_groups_are_small_only_where_there_are_files(
    type_: pa.DataType, sizes: list[int], tmp_path: Path
) -> None:
    schema = pa.schema([pa.field("column", type_)])
    path = tmp_path / "part.parquet"
    writer = PartWriter(path, schema, None)
    writer.write(pa.table([pa.array([b"x"] * 130).cast(type_)], schema=schema))
    writer.finish()
    writer.close()
    footer = pq.read_metadata(path)
    assert [footer.row_group(n).num_rows for n in range(footer.num_row_groups)] == sizes
