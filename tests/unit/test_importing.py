"""Recipes for datasets that are there already."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support import jpeg
from support_shards import img2dataset_row, write_hf, write_tar

from surd.errors import SurdError
from surd.recipe.importing import KINDS, import_recipe


def write(path: Path, content: bytes | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def of_kind(kind: str, folder: Path) -> Path:
    """A small dataset of a kind."""
    if kind == "surd":
        write(folder / "metadata.jsonl", json.dumps({"file_name": "1", "text": "a", "prompt": "b"}))
    elif kind in ("webdataset", "img2dataset"):
        write_tar(folder / "00000.tar", {"1.jpg": jpeg(1), "1.json": img2dataset_row("1")})
    elif kind == "huggingface":
        write_hf(folder / "train.parquet", [jpeg(1)], text=["a"])
    elif kind == "folder":
        write(folder / "1.jpg", jpeg(1))
    else:
        write(folder / "t.csv", "url,prompt\nhttps://a.example/1.jpg,a\n")
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_imported(tmp_path: Path, kind: str) -> None:
    recipe = import_recipe(kind, str(of_kind(kind, tmp_path / "my data.v2")))
    (source,) = recipe.sources
    assert recipe.name == "my-data"
    names = {"surd": "surd_release", "img2dataset": "webdataset"}
    assert (source.kind, source.path) == (names.get(kind, kind), str(tmp_path / "my data.v2"))
    assert source.limit is None


def test_the_recipe_has_the_name_given_and_an_absolute_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_kind("table", tmp_path)
    monkeypatch.chdir(tmp_path)
    recipe = import_recipe("table", "t.csv", "mine")
    assert (recipe.name, recipe.sources[0].path) == ("mine", str(tmp_path / "t.csv"))


IMG2DATASET: dict[str, tuple[dict[str, Any], str]] = {
    "webdataset": ({"00000.tar": None, "00000.parquet": None}, "webdataset"),
    "parquet": ({"00000.parquet": b"image"}, "huggingface"),
    "files": ({"00000/0.jpg": jpeg(1), "00000.parquet": None}, "folder"),
    "tables alone": ({"00000.parquet": None, "00000_stats.json": b"{}"}, "table"),
}


@pytest.mark.parametrize("format_", IMG2DATASET)
def test_every_output_format_of_img2dataset_is_known(tmp_path: Path, format_: str) -> None:
    files, kind = IMG2DATASET[format_]
    for name, content in files.items():
        if name.endswith(".tar"):
            write_tar(tmp_path / name, {"1.jpg": jpeg(1)})
        elif name.endswith(".parquet"):
            row = img2dataset_row("0") | ({"jpg": content} if content else {})
            pq.write_table(pa.Table.from_pylist([row]), tmp_path / name)
        else:
            write(tmp_path / name, content)
    assert import_recipe("img2dataset", str(tmp_path)).sources[0].kind == kind


@pytest.mark.parametrize(
    ("kind", "files", "message"),
    [
        (
            "webdatset",
            {},
            "webdatset: not a kind of dataset that surd imports; did you mean webdataset?",
        ),
        ("qqqq", {}, "qqqq: not a kind of dataset that surd imports; known: surd, webdataset, "),
        ("surd", {"a.txt": "x"}, "contains no metadata.jsonl file"),
        ("surd", {"metadata.jsonl": ""}, "nothing here that can be imported as surd"),
        ("webdataset", {"a.txt": "x"}, "contains no .tar file"),
        ("webdataset", {"a.tar": b"x" * 2000}, "nothing here that can be imported as webdataset"),
        ("img2dataset", {"a.txt": "x"}, "is this img2dataset's output_folder?"),
        ("img2dataset", {"a.tfrecord": "x"}, "TFRecord files"),
        ("img2dataset", {"a.parquet": "x"}, "not a Parquet file"),
        ("huggingface", {"a.arrow": "x"}, "contains no .parquet file"),
        ("huggingface", {"a.parquet": "x"}, "not a Parquet file"),
        ("folder", {"a.txt": "x"}, "nothing here that can be imported as folder"),
        ("table", {"a.txt": "x"}, "file found; correct the source's path"),
        ("table", {"a.csv": "url,prompt\n"}, "nothing here that can be imported as table"),
    ],
)
def test_what_cannot_be_imported_is_told_in_one_line(
    tmp_path: Path, kind: str, files: dict[str, str | bytes], message: str
) -> None:
    for name, content in files.items():
        write(tmp_path / name, content)
    with pytest.raises(SurdError) as caught:
        import_recipe(kind, str(tmp_path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_there_is_told(tmp_path: Path, kind: str) -> None:
    with pytest.raises(SurdError, match="no such file or folder; correct the path"):
        import_recipe(kind, str(tmp_path / "none"))
    with pytest.raises(SurdError, match="no such file or folder; correct the path"):
        import_recipe(kind, str(tmp_path / ("x" * 5000)))


def test_a_url_is_only_for_hugging_face() -> None:
    with pytest.raises(SurdError, match="read from the local disk; download it first"):
        import_recipe("webdataset", "https://a.example/00000.tar")
