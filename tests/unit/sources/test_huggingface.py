"""Parquet files with images inside: columns, keys, resumption, and what is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support_shards import img2dataset_row, write_hf
from support_sources import readers

from surd.errors import SourceError
from surd.files.local_files import LocalFiles
from surd.sources.huggingface import HuggingFaceSource, pages
from surd.sources.record import Record

all_pages, records = readers(HuggingFaceSource, pages)


def write(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_a_row_becomes_a_record(tmp_path: Path) -> None:
    path = write_hf(
        tmp_path / "data" / "train-00000-of-00001.parquet",
        [b"one", b"two"],
        prompt=["cup, best", "b"],
        text=["a cup", None],
        seed=[7, 8],
        nsfw=[False, True],
        user_name=["anna", None],
    )
    first, second = records(tmp_path, licence="CC0 1.0", author="all")
    assert first == Record(
        key="data/train-00000-of-00001.parquet/0",
        path=f"{path}::image/0",
        prompt="cup, best",
        simple_prompt="a cup",
        author="anna",
        licence="CC0 1.0",
        nsfw_level="none",
        settings={"seed": 7},
    )
    assert (second.simple_prompt, second.author, second.nsfw_level) == (None, "all", "x")


def test_columns_may_be_named(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.parquet",
        a=pa.array([b"x"]), b=pa.array([b"y"]), p=["prompt"], s=["simple"], k=["key"],
    )  # fmt: skip
    (record,) = records(
        path, image_column="b", prompt_column="p", simple_prompt_column="s", key_column="k"
    )
    assert (record.path, record.key, record.source_id) == (f"{path}::b/0", "key", "key")
    assert (record.prompt, record.simple_prompt) == ("prompt", "simple")


def test_the_only_column_of_bytes_holds_the_images(tmp_path: Path) -> None:
    path = write(tmp_path / "a.parquet", picture=pa.array([b"x"], pa.large_binary()))
    assert records(path)[0].path == f"{path}::picture/0"


def test_the_parquet_output_of_img2dataset_works_as_it_is(tmp_path: Path) -> None:
    rows = [
        img2dataset_row("0", jpg=b"image", txt="caption 0"),
        img2dataset_row("1", jpg=None, txt=None, status="failed_to_download", error_message="404"),
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "00000.parquet")
    (tmp_path / "00000_stats.json").write_text("{}")
    first, second = records(tmp_path)
    assert first.path == f"{tmp_path}/00000.parquet::jpg/0"
    assert (first.prompt, first.url) == ("caption 0", "https://a.example/0.jpg")
    assert (second.path, second.url) == (None, "https://a.example/1.jpg")
    assert second.settings["error_message"] == "404"


def test_no_bytes_are_read_while_collecting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    original = pq.ParquetFile.iter_batches

    def noting(self: Any, rows: int, groups: list[int], columns: list[str]) -> Any:
        asked.extend(columns)
        return original(self, rows, groups, columns)

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", noting)
    records(write_hf(tmp_path / "a.parquet", [b"x"], text=["a"]))
    assert asked == ["text"]


def test_reading_resumed_at_any_page_gives_the_same_rest(tmp_path: Path) -> None:
    for name in ("test", "train-0", "train-1"):
        write_hf(tmp_path / f"{name}.parquet", [b"x"] * 130, 40, text=[str(i) for i in range(130)])
    whole = all_pages(tmp_path)
    assert [len(page.records) for page in whole] == [100, 100, 100, 90]
    assert len({record.key for page in whole for record in page.records}) == 390
    for i, page in enumerate(whole):
        assert all_pages(tmp_path, page.cursor) == whole[i:]


def test_a_dataset_may_lie_at_a_url(tmp_path: Path) -> None:
    path = write_hf(tmp_path / "a.parquet", [b"x", b"y"], text=["a", "b"])
    memory = fsspec.filesystem("memory")
    for name in ("/org/name/data/train.parquet", "/org/name/data/test.parquet"):
        memory.pipe_file(name, path.read_bytes())
    memory.pipe_file("/org/name/README.md", b"card")
    found = records("memory://org/name")
    assert [r.key for r in found][::2] == ["data/test.parquet/0", "data/train.parquet/0"]
    assert found[3].path == "memory:///org/name/data/train.parquet::image/1"
    (page,) = all_pages("memory://org/name/data/train.parquet")
    assert [r.prompt for r in page.records] == ["a", "b"]


@pytest.mark.parametrize("url", ["memory://nothing/here", "nonsense://a/b"])
def test_a_url_without_a_dataset_is_told_in_one_line(url: str) -> None:
    with pytest.raises(SourceError, match=r"no \.parquet file|cannot be listed") as caught:
        all_pages(url)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("columns", "options", "message"),
    [
        ({"text": ["a"]}, {}, "no column holds images; for a table of urls or paths, use"),
        (
            {"a": [b"x"], "b": [b"y"]},
            {},
            "several columns hold bytes, a, b; choose one with image_column",
        ),
        ({"image": [b"x"]}, {"image_column": "img"}, "'img' is not a column of bytes"),
        ({"image": [b"x"], "text": ["a"]}, {"prompt_column": "texts"}, "did you mean 'text'"),
        ({"image": [b"x"], "text": ["a"]}, {"key_column": "id"}, "no column 'id' for key_column"),
        ({"image": [{"path": "a.png"}]}, {}, "no column holds images"),
    ],
)
def test_wrong_columns_are_told_with_the_mend(
    tmp_path: Path, columns: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(SourceError, match=message):
        all_pages(write(tmp_path / "a.parquet", **columns), **options)


@pytest.mark.parametrize(
    "data", [b"", b"PAR1", b"<html>" * 100, b"PAR1\xff\xff\xff\xff\4\0\0\0PAR1"]
)
def test_what_is_no_parquet_is_told_in_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.parquet").write_bytes(data)
    with pytest.raises(SourceError, match="not a Parquet file") as caught:
        all_pages(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_truncated_file_is_told_after_the_good_ones(tmp_path: Path) -> None:
    write_hf(tmp_path / "a.parquet", [b"x"] * 100, text=["a"] * 100)
    data = write_hf(tmp_path / "b.parquet", [b"x"] * 100, text=["a"] * 100).read_bytes()
    (tmp_path / "b.parquet").write_bytes(data[: len(data) // 2])
    reading = pages(HuggingFaceSource(path=str(tmp_path)), None)
    with pytest.raises(SourceError, match=r"b\.parquet: not a Parquet file"):
        list(reading)


def test_text_that_is_not_utf8_loses_only_its_row(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    text = pa.StringArray.from_buffers(
        2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"a\xff")
    )
    path = write(tmp_path / "a.parquet", image=pa.array([b"x", b"y"]), text=text)
    assert [record.prompt for record in records(path)] == ["a"]
    assert "1 such rows skipped" in caplog.text


def test_an_empty_file_among_others_is_passed_over(tmp_path: Path) -> None:
    write_hf(tmp_path / "a.parquet", [], text=pa.array([], pa.string()))
    write_hf(tmp_path / "b.parquet", [b"x"], text=["a"])
    assert [record.key for record in records(tmp_path)] == ["b.parquet/0"]


def test_nothing_to_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "data-00000.arrow").write_bytes(b"x")
    with pytest.raises(SourceError, match=r"contains no \.parquet file"):
        all_pages(tmp_path)


def test_a_row_with_a_list_of_images_is_as_many_samples(tmp_path: Path) -> None:
    cells = [[{"bytes": b"a", "path": "1"}, {"bytes": b"bb", "path": "2"}], None, [{"bytes": b"c"}]]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    path = write(
        tmp_path / "a.parquet",
        images=pa.array(cells, pa.list_(struct)), text=["two", "none", "one"], k=["x", "y", "z"],
    )  # fmt: skip
    found = records(path)
    assert [r.key for r in found] == ["a.parquet/0/0", "a.parquet/0/1", "a.parquet/2/0"]
    assert [r.prompt for r in found] == ["two", "two", "one"]
    files = LocalFiles()
    bodies = [files.read(str(r.path), 100).body for r in found]
    assert bodies == [b"a", b"bb", b"c"]
    assert files.read(f"{path}::images/0/2", 100).status == "missing_file"
    assert files.read(f"{path}::images/1/0", 100).status == "missing_file"
    files.close()
    assert [r.key for r in records(path, key_column="k")] == ["x/0", "x/1", "z/0"]
    write(path, images=pa.array(cells[:1] * 75, pa.list_(struct)), text=["t"] * 75)
    whole = all_pages(path)
    assert [len(page.records) for page in whole] == [100, 50]
    write(path, images=pa.array([(cells[0] or []) * 3] * 20, pa.list_(struct)), text=["t"] * 20)
    whole = all_pages(path)
    assert [len(page.records) for page in whole] == [102, 18]
    assert all_pages(path, whole[1].cursor) == whole[1:]


def test_images_may_be_files_that_the_table_names(tmp_path: Path) -> None:
    for folder, name in (("data/images", "1.png"), ("images", "2.png")):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / name).touch()
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [{"bytes": None, "path": f"images/{i}.png"} for i in (1, 2, 3)]
    write(tmp_path / "data" / "a.parquet", image=pa.array(cells, struct), text=["a", "b", "c"])
    found = [(r.path, r.prompt) for r in records(tmp_path)]
    assert found == [
        (str(tmp_path / "data" / "images" / "1.png"), "a"),
        (str(tmp_path / "images" / "2.png"), "b"),
        (str(tmp_path / "data" / "images" / "3.png"), "c"),
    ]


def test_every_caption_of_a_list_is_kept(tmp_path: Path) -> None:
    path = write_hf(tmp_path / "a.parquet", [b"x"], prompt=["p"], caption=[["one", "two"]])
    (record,) = records(path)
    assert (record.prompt, record.simple_prompt, record.captions) == ("p", "one", ("two",))


def test_files_and_bad_rows_are_counted(tmp_path: Path) -> None:
    text = pa.array([b"one", b"\xff"]).view(pa.string())
    write(tmp_path / "a.parquet", image=pa.array([b"x", b"y"]), text=text)
    (page,) = all_pages(tmp_path)
    assert page.seen.files == 1
    assert page.seen.passed["bad row of a table"][0] == 1
