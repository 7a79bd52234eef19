"""Reading a published dataset that somebody else made."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support_publish import description

from surd.dataset.columns import PUBLISHED
from surd.dataset.published import Published, open_published, pictures, row_reader
from surd.errors import SurdError
from surd.evaluate.gap import _pairs
from surd.evaluate.rewriting import examples_of

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus"
ID = "0123456789abcdef" * 2
ROW = {"id": ID, "image": {"bytes": b"x", "path": f"{ID}.png"}, "simple_prompt": "a cup"}


def made(folder: Path, table: pa.Table, **said: Any) -> Published:
    pq.write_table(table, folder / "train-00000-of-00001.parquet")
    content = description({"rows": table.num_rows} | said)
    (folder / "surd-dataset.json").write_text(json.dumps(content))
    return open_published(str(folder))


@pytest.mark.parametrize(
    "odd",
    [
        {"name": "../a.parquet"}, {"name": 1}, {"split": []}, {"split": "../a"}, {"rows": "1"},
        {"bytes": -1}, {"rows": 2**63}, {"rows": True}, {"sha256": None},
    ],
)  # fmt: skip
def test_a_description_that_surd_did_not_write_is_refused(
    tmp_path: Path, odd: dict[str, Any]
) -> None:
    table = PUBLISHED.empty_table()
    made(tmp_path, table)
    with pytest.raises(
        SurdError, match=rf"surd-dataset.json: unreadable .files\[0\]\.{''.join(odd)}"
    ):
        made(tmp_path, table, **odd)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("image", ["a.png"]), ("image", [{"bytes": b"x"}]), ("image", [{"bytes": 1, "path": "a"}]),
        ("simple_prompt", [5]), ("complex_prompt", [["a"]]), ("width", ["a"]),
    ],
)  # fmt: skip
def test_columns_of_other_types_are_told(tmp_path: Path, column: str, values: list[Any]) -> None:
    table = pa.Table.from_pylist([ROW], PUBLISHED)
    place = table.column_names.index(column)
    dataset = made(tmp_path, table.set_column(place, column, pa.array(values)))
    with pytest.raises(SurdError, match=f"parquet: {column} is .*, not "):
        list(pictures(dataset, "train"))


def test_larger_types_of_other_libraries_are_read(tmp_path: Path) -> None:
    large = [
        field.with_type(pa.large_string()) if field.type == pa.string() else field
        for field in PUBLISHED
    ]
    dataset = made(tmp_path, pa.Table.from_pylist([ROW], pa.schema(large)))
    assert [picture.data for picture in pictures(dataset, "train")] == [b"x"]


@pytest.mark.parametrize("odd", [{"image": None}, {"image": {"path": "a.png"}}, {"id": None}])
def test_a_sample_without_image_or_id_is_told(tmp_path: Path, odd: dict[str, Any]) -> None:
    dataset = made(tmp_path, pa.Table.from_pylist([ROW | odd], PUBLISHED))
    told = f"a sample without {''.join(odd)}"
    with pytest.raises(SurdError, match=told):
        list(pictures(dataset, "train"))
    with pytest.raises(SurdError, match=told):
        row_reader(dataset, "train", ("id", "image"))([0])


def test_text_that_is_no_utf8_is_told(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([ROW], PUBLISHED)
    place = table.column_names.index("simple_prompt")
    broken = pa.array([b"a \xff cup"]).view(pa.string())
    dataset = made(tmp_path, table.set_column(place, "simple_prompt", broken))
    with pytest.raises(SurdError, match=r"cannot be read .simple_prompt: text that is not UTF-8"):
        list(pictures(dataset, "train"))
    with pytest.raises(SurdError, match=r"cannot be read .simple_prompt: text that is not UTF-8"):
        row_reader(dataset, "train", ("id", "simple_prompt"))([0])


def test_names_of_columns_that_are_no_utf8_are_told(tmp_path: Path) -> None:
    seed = CORPUS / "archive" / "parquet-schema-no-utf8"
    made(tmp_path, PUBLISHED.empty_table())
    (tmp_path / "train-00000-of-00001.parquet").write_bytes(seed.read_bytes()[1:])
    with pytest.raises(SurdError, match=r"cannot be read .*utf-8"):
        list(pictures(open_published(str(tmp_path)), "train"))


def test_captions_alone_are_no_pairs(tmp_path: Path) -> None:
    both = ROW | {"complex_prompt": "a cup, oil on canvas"}
    made(tmp_path, pa.Table.from_pylist([ROW, both], PUBLISHED))
    assert examples_of(str(tmp_path)) == [("a cup", "a cup, oil on canvas")]
    assert _pairs(str(tmp_path), 9) == {"a cup": "a cup, oil on canvas"}
