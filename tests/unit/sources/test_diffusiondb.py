"""DiffusionDB: rows joined with the archives that are there."""

from __future__ import annotations

import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from support_sources import readers

from surd.errors import SourceError
from surd.files.local_files import LocalFiles
from surd.sources.diffusiondb import DiffusionDbSource, nsfw_level, pages
from surd.sources.record import Record

SCHEMA = pa.schema(
    {
        "image_name": pa.string(), "prompt": pa.string(), "part_id": pa.uint16(),
        "seed": pa.uint32(), "step": pa.uint16(), "cfg": pa.float32(), "sampler": pa.uint8(),
        "width": pa.uint16(), "height": pa.uint16(), "user_name": pa.string(),
        "timestamp": pa.timestamp("ns", "UTC"), "image_nsfw": pa.float32(),
        "prompt_nsfw": pa.float32(),
    }
)  # fmt: skip


def row(number: int, part: int = 1, **fields: Any) -> dict[str, Any]:
    base = {
        "image_name": f"{number:08x}-aaaa.png", "prompt": f"prompt {number}", "part_id": part,
        "seed": 4_000_000_000, "step": 50, "cfg": 7.0, "sampler": 8, "width": 512, "height": 768,
        "user_name": "c2f2", "timestamp": datetime(2022, 8, 11, 9, 5, tzinfo=UTC),
        "image_nsfw": 0.125, "prompt_nsfw": 0.0625,
    }  # fmt: skip
    return base | fields


def write(folder: Path, rows: list[dict[str, Any]], name: str = "metadata.parquet") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(rows, SCHEMA), folder / name, row_group_size=60)
    return folder / name


def write_part(folder: Path, number: int, names: list[str]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"part-{number:06}.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"image " + name.encode())
        archive.writestr(f"part-{number:06}.json", "{}")
    return path


all_pages, records = readers(DiffusionDbSource, pages)


def test_a_row_becomes_a_record(tmp_path: Path) -> None:
    path = write(tmp_path, [row(1)])
    part = write_part(tmp_path / "images", 1, ["00000001-aaaa.png"])
    (record,) = records(path)
    assert record == Record(
        key="00000001-aaaa.png",
        source_id="00000001-aaaa.png",
        path=f"{part}::00000001-aaaa.png",
        prompt="prompt 1",
        author="c2f2",
        licence="CC0 1.0",
        nsfw_level="none",
        created_at="2022-08-11T09:05:00+00:00",
        settings={
            "part_id": 1, "seed": 4_000_000_000, "step": 50, "cfg": 7.0, "sampler": "k_lms",
            "width": 512, "height": 768, "image_nsfw": 0.125, "prompt_nsfw": 0.0625,
        },
    )  # fmt: skip
    files = LocalFiles()
    assert files.read(record.path or "", 100).body == b"image 00000001-aaaa.png"
    files.close()


def test_rows_of_parts_that_are_not_there_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write(tmp_path, [row(i, part=i % 3 + 1) for i in range(9)])
    write_part(tmp_path / "images", 2, [])
    assert [record.settings["part_id"] for record in records(path)] == [2, 2, 2]
    assert "6 rows left out, since their parts are missing" in caplog.text


def test_parts_may_be_unpacked_and_lie_elsewhere(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [row(1), row(2, part=2)])
    unpacked = tmp_path / "b" / "part-000001"
    unpacked.mkdir(parents=True)
    packed = write_part(tmp_path / "b", 2, [])
    assert [record.path for record in records(path, images=str(tmp_path / "b"))] == [
        f"{unpacked}/00000001-aaaa.png",
        f"{packed}::00000002-aaaa.png",
    ]


def test_a_part_packed_and_unpacked_is_read_from_its_archive(tmp_path: Path) -> None:
    path = write(tmp_path, [row(1)])
    part = write_part(tmp_path / "images", 1, [])
    (tmp_path / "images" / "part-000001").mkdir()
    assert records(path)[0].path == f"{part}::00000001-aaaa.png"


def test_each_subset_finds_its_own_parts(tmp_path: Path) -> None:
    small = write(tmp_path, [row(1)])
    large = write(tmp_path, [row(1, image_name="a.webp")], "metadata-large.parquet")
    parts = [write_part(tmp_path / f, 1, []) for f in ("images", "diffusiondb-large-part-1")]
    assert records(small)[0].path == f"{parts[0]}::00000001-aaaa.png"
    assert records(large)[0].path == f"{parts[1]}::a.webp"


def test_one_part_in_two_places_is_told(tmp_path: Path) -> None:
    path = write(tmp_path, [row(1)])
    for folder in ("a", "b"):
        write_part(tmp_path / folder, 1, [])
    with pytest.raises(SourceError, match="hold the same part; set images to one folder"):
        records(path)


def test_the_metadata_may_lie_at_a_url(tmp_path: Path) -> None:
    import fsspec

    data = write(tmp_path, [row(1)]).read_bytes()
    fsspec.filesystem("memory").pipe_file("/ddb/metadata.parquet", data)
    write_part(tmp_path / "images", 1, [])
    found = records("memory://ddb/metadata.parquet", images=str(tmp_path / "images"))
    assert [record.prompt for record in found] == ["prompt 1"]
    with pytest.raises(SourceError, match="set images to the folder"):
        records("memory://ddb/metadata.parquet")


@pytest.mark.parametrize(
    ("image", "prompt", "level"),
    [
        (0.0, 0.19, "none"), (0.2, 0.0, "soft"), (0.0, 0.49, "soft"), (0.5, 0.1, "mature"),
        (0.1, 0.89, "mature"), (0.9, 0.0, "x"), (2.0, 0.0, "x"), (None, 0.3, "soft"),
        (0.3, None, "soft"), (None, None, None), (float("nan"), 0.0, "none"),
        (float("nan"), None, None),
    ],
)  # fmt: skip
def test_the_higher_score_becomes_the_level(
    image: float | None, prompt: float | None, level: str | None
) -> None:
    params = DiffusionDbSource(path="x")
    assert nsfw_level(params, {"image_nsfw": image, "prompt_nsfw": prompt}) == level


def test_thresholds_can_be_set_and_have_to_rise() -> None:
    params = DiffusionDbSource(path="x", soft_from=0.6, mature_from=0.7, x_from=2)
    assert nsfw_level(params, {"image_nsfw": 0.9}) == "mature"
    with pytest.raises(ValidationError, match="must increase"):
        DiffusionDbSource(path="x", soft_from=0.9, mature_from=0.5)


def test_reading_resumed_at_any_page_gives_the_same_rest(tmp_path: Path) -> None:
    path = write(tmp_path, [row(i, part=i % 2 + 1) for i in range(500)])
    write_part(tmp_path / "images", 1, [])
    whole = all_pages(path)
    assert [len(page.records) for page in whole] == [100, 100, 50]
    for i, page in enumerate(whole):
        assert all_pages(path, page.cursor) == whole[i:]


@pytest.mark.parametrize("name", [None, "", "../a.png", "a/b.png", "a.exe", "part-000001.json"])
def test_a_row_with_an_odd_name_is_skipped_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, name: str | None
) -> None:
    path = write(tmp_path, [row(0, part=2), row(1, image_name=name), row(2)])
    write_part(tmp_path, 1, [])
    assert [record.prompt for record in records(path)] == ["prompt 2"]
    assert "row 2: image_name is" in caplog.text and "1 such rows skipped" in caplog.text


def test_values_may_be_null(tmp_path: Path) -> None:
    nulls: dict[str, Any] = dict.fromkeys(SCHEMA.names)
    path = write(tmp_path, [nulls | {"image_name": "a.png", "part_id": 1}, nulls])
    write_part(tmp_path, 1, [])
    (record,) = records(path)
    assert (record.prompt, record.author, record.created_at) == (None, None, None)


def test_columns_may_be_of_other_types(tmp_path: Path) -> None:
    odd = {"sampler": [8], "user_name": 5, "timestamp": "2022-08-11"}
    rows = [row(number, part) | odd for number, part in enumerate((1, 2**64 - 1))]
    schema = pa.Table.from_pylist(rows[:1]).schema
    schema = schema.set(schema.get_field_index("part_id"), pa.field("part_id", pa.uint64()))
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "metadata.parquet")
    write_part(tmp_path, 1, [])
    (record,) = records(tmp_path / "metadata.parquet")
    assert (record.author, record.created_at) == ("5", "2022-08-11")
    assert record.settings["sampler"] == [8]


def test_other_columns_may_be_missing(tmp_path: Path) -> None:
    table = pa.table({"image_name": ["a.png"], "prompt": ["p"], "part_id": [1]})
    pq.write_table(table, tmp_path / "metadata.parquet")
    write_part(tmp_path, 1, [])
    assert records(tmp_path / "metadata.parquet")[0].nsfw_level is None


def test_a_folder_stands_for_the_metadata_in_it(tmp_path: Path) -> None:
    path = write(tmp_path, [row(1)])
    write_part(tmp_path, 1, ["00000001-aaaa.png"])
    assert records(tmp_path) == records(path)
    write(tmp_path, [row(1)], "metadata-large.parquet")
    with pytest.raises(SourceError, match=r"a folder with both metadata\.parquet and"):
        records(tmp_path)
    with pytest.raises(SourceError, match=r"a folder with neither metadata\.parquet nor"):
        records(tmp_path.parent)


def test_what_is_not_diffusiondb_is_told_in_one_line(tmp_path: Path) -> None:
    path = write(tmp_path, [row(1)])
    with pytest.raises(SourceError, match=r"no part-000001\.zip or similar"):
        records(path)
    with pytest.raises(SourceError, match="cannot be read"):
        records(tmp_path / "none.parquet")
    write_part(tmp_path, 1, [])
    pq.write_table(pa.table({"image_name": ["a"], "prompt": ["p"]}), path)
    with pytest.raises(SourceError, match="no column part_id"):
        records(path)
    pq.write_table(pa.table({"image_name": ["a"], "prompt": ["p"], "part_id": ["1"]}), path)
    with pytest.raises(SourceError, match="part_id is string"):
        records(path)
    for content in (b"", b"PAR1", path.read_bytes()[:-9]):
        path.write_bytes(content)
        with pytest.raises(SourceError, match="not a Parquet file"):
            records(path)


def test_a_damaged_row_group_is_told_after_the_good_ones(tmp_path: Path) -> None:
    path = write(tmp_path, [row(i) for i in range(180)])
    write_part(tmp_path, 1, [])
    data = bytearray(path.read_bytes())
    chunk = pq.ParquetFile(path).metadata.row_group(2).column(1)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(data)
    reading = pages(DiffusionDbSource(path=str(path)), None)
    assert [len(next(reading).records) for _ in range(2)] == [100, 20]
    with pytest.raises(SourceError, match="row group 2 is damaged"):
        next(reading)


def test_a_type_with_names_of_several_lines_is_told_in_one(tmp_path: Path) -> None:
    table = pa.table({"image_name": ["a.png"], "prompt": ["a"], "part_id": [{"a\nb" * 100: 1}]})
    pq.write_table(table, tmp_path / "metadata.parquet")
    with pytest.raises(SourceError, match=r"part_id is struct<a ba ba b[^\n]{,120}$"):
        records(tmp_path / "metadata.parquet")
