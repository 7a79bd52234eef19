"""Archives and tables that expand, or that claim more than they hold."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support_bombs import in_a_gigabyte
from support_publish import description

from surd.dataset.columns import PUBLISHED
from surd.dataset.published import Published, batches, open_published, row_reader
from surd.errors import SourceError, WorkspaceError
from surd.files import parquet_pages
from surd.files.local_files import LocalFiles
from surd.files.parquet_pages import PLAIN_PAGE_BYTES, BombError, Group, check_group, read_groups
from surd.sources.huggingface import HuggingFaceSource
from surd.sources.huggingface import pages as rows_of_images
from surd.sources.table_rows import open_parquet

MB = 1 << 20

READ_CELLS = """
from surd.files.local_files import LocalFiles
files = LocalFiles()
print(" ".join({files.read(path, 50_000_000).status for path in sys.argv[1:]}))
"""
READ_TABLE = """
from surd.errors import SourceError
from surd.sources.table_rows import open_parquet
rows = 0
try:
    for number, row in open_parquet(Path(sys.argv[1])).rows(0, ["url"]):
        rows += 1
except SourceError as error:
    print("refused" if "would expand" in str(error) else error)
else:
    print(rows)
"""


def groups_of(path: Path) -> list[Group]:
    with path.open("rb") as file:
        return read_groups(file)


def write_zip(path: Path, method: int, megabytes: int) -> Path:
    with (
        zipfile.ZipFile(path, "w", method) as archive,
        archive.open("bomb.png", "w", force_zip64=True) as member,
    ):
        block = bytes(MB)
        for _ in range(megabytes):
            member.write(block)
    return path


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_zip_members_that_expand_without_bound_are_not_opened(tmp_path: Path, method: int) -> None:
    path = write_zip(tmp_path / "bomb.zip", method, 2)
    assert path.stat().st_size < 2_000
    files = LocalFiles()
    fetched = files.read(f"{path}::bomb.png", 1000)
    files.close()
    assert fetched.status == "unreadable_file"
    assert "deflated" in (fetched.detail or "")


def test_a_deflated_member_is_read_up_to_the_cap(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "bomb.zip", zipfile.ZIP_DEFLATED, 100)
    assert in_a_gigabyte(READ_CELLS, f"{path}::bomb.png", mb=600) == "too_large"


def write_cells(path: Path, cells: list[bytes], *, dictionary: bool) -> Path:
    table = pa.table({"image": pa.array(cells, pa.large_binary())})
    pq.write_table(
        table,
        path,
        compression="zstd",
        use_dictionary=dictionary,
        write_statistics=False,
        dictionary_pagesize_limit=1 << 30,
        data_page_size=1 << 30,
    )
    return path


def test_a_dictionary_of_large_cells_is_read_within_a_gigabyte(tmp_path: Path) -> None:
    path = write_cells(tmp_path / "a.parquet", [bytes(30 * MB)] * 2, dictionary=True)
    assert path.stat().st_size < 10_000
    cells = [f"{path}::image/{row}" for row in range(2)]
    assert in_a_gigabyte(READ_CELLS, *cells) == "ok"


def test_few_images_in_very_many_rows_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    for rows, size, status in ((100, 12 * MB, "ok"), (1000, 100_000, "ok"), (1000, 2 * MB, "")):
        image = pa.array([bytes(size)], pa.large_binary())
        indices = pa.array([0] * rows, pa.int32())
        table = pa.table({"image": pa.DictionaryArray.from_arrays(indices, image)})
        pq.write_table(table, path, write_statistics=False, store_schema=False, compression="zstd")
        files = LocalFiles()
        fetched = files.read(f"{path}::image/0", 50_000_000)
        files.close()
        assert fetched.status == (status or "unreadable_file"), fetched.detail


def test_cells_that_expand_a_thousandfold_are_refused(tmp_path: Path) -> None:
    path = write_cells(tmp_path / "a.parquet", [bytes(100 * MB)], dictionary=False)
    assert path.stat().st_size < 40_000
    assert in_a_gigabyte(READ_CELLS, f"{path}::image/0", mb=600) == "unreadable_file"


def test_texts_that_expand_a_thousandfold_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    table = pa.table({"url": ["http://a/" + "a" * (100 * MB)]})
    pq.write_table(table, path, compression="zstd", use_dictionary=False, write_statistics=False)
    assert in_a_gigabyte(READ_TABLE, path, mb=600) == "refused"


def test_a_dictionary_times_its_rows_is_read_a_few_rows_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    text = pa.array(["http://a/" + "a" * (4 * MB)])
    table = pa.table({"url": pa.DictionaryArray.from_arrays(pa.array([0] * 300), text)})
    pq.write_table(
        table, path, compression="zstd", write_statistics=False, dictionary_pagesize_limit=1 << 30
    )
    assert path.stat().st_size < 10_000
    assert in_a_gigabyte(READ_TABLE, path, mb=900) == "300"


def claiming(path: Path, rows: int) -> Path:
    """A file of images whose footer claims so many rows, in groups and columns as well."""
    write_cells(path, [b"a", b"b", b"c"], dictionary=False)
    data = path.read_bytes()
    size = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - size : -8]
    said, claimed = zigzag(3), zigzag(rows)
    metadata = pq.read_metadata(path)
    assert metadata.num_rows == 3
    for head in (b"\x16", b"\x26"):  # an i64, one or two fields after the last
        footer = footer.replace(head + said, head + claimed)
    path.write_bytes(data[: -8 - size] + footer + len(footer).to_bytes(4, "little") + b"PAR1")
    assert pq.read_metadata(path).num_rows == rows
    return path


def zigzag(number: int) -> bytes:
    number, out = number * 2, bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


@pytest.mark.parametrize("rows", [1000, 10**12])
def test_rows_that_a_file_does_not_hold_make_no_samples(tmp_path: Path, rows: int) -> None:
    path = claiming(tmp_path / "a.parquet", rows)
    with pytest.raises(SourceError, match="claims"):
        list(rows_of_images(HuggingFaceSource(path=str(path)), None))


def test_a_large_page_that_does_not_expand_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    cells = [i.to_bytes(4, "little") * (PLAIN_PAGE_BYTES // 40) for i in range(12)]
    table = pa.table({"image": pa.array(cells, pa.large_binary())})
    pq.write_table(table, path, compression="none", use_dictionary=False, data_page_size=1 << 30)
    metadata = pq.read_metadata(path)
    assert metadata.row_group(0).column(0).total_uncompressed_size > PLAIN_PAGE_BYTES
    assert check_group(path, groups_of(path), 0, ["image"]) >= 4


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["none", "snappy", "zstd"])
def test_page_headers_of_every_kind_count_as_the_footer_does(
    tmp_path: Path, version: str, codec: str
) -> None:
    path = tmp_path / "a.parquet"
    rows = [{"bytes": f"{i}".encode(), "n": [i] * (i % 3)} for i in range(5000)]
    table = pa.table({"image": rows, "word": [f"{i % 7}" for i in range(5000)]})
    pq.write_table(
        table,
        path,
        compression=codec,
        data_page_version=version,
        data_page_size=500,
        row_group_size=2000,
        write_page_checksum=True,
    )
    groups = groups_of(path)
    for group in range(len(groups)):
        assert check_group(path, groups, group) > 1000
    assert sum(1 for _ in open_parquet(path).rows(0, ["word"])) == 5000


def test_a_file_at_a_url_is_checked_by_its_footer(tmp_path: Path) -> None:
    path = write_cells(tmp_path / "a.parquet", [bytes(100 * MB)], dictionary=False)
    with pytest.raises(BombError, match="would expand"):
        check_group(path.as_uri(), groups_of(path), 0)


def dataset_of(folder: Path, table: pa.Table, rows: int | None = None, **options: Any) -> Published:
    """A published folder of one file, with the columns of a dataset."""
    nulls = {
        field.name: pa.nulls(table.num_rows, field.type)
        for field in PUBLISHED
        if field.name not in table.column_names
    }
    whole = pa.table({**{name: table[name] for name in table.column_names}, **nulls})
    pq.write_table(whole, folder / "train.parquet", compression="zstd", **options)
    said = description({"name": "train.parquet", "rows": rows or table.num_rows})
    (folder / "surd-dataset.json").write_text(json.dumps(said))
    return open_published(str(folder))


READ_PUBLISHED = """
from surd.dataset.published import batches, open_published, row_reader
from surd.errors import WorkspaceError
dataset = open_published(sys.argv[1])
for read in (
    lambda: list(batches(dataset, "train", ["id", "simple_prompt"])),
    lambda: row_reader(dataset, "train", ["id", "simple_prompt"])([0]),
):
    try:
        read()
    except WorkspaceError as error:
        print("refused" if "train.parquet: cannot be read" in str(error) else error)
    else:
        print("read")
"""
ID = "0123456789abcdef" * 2


def test_texts_of_a_published_dataset_that_expand_a_thousandfold_are_refused(
    tmp_path: Path,
) -> None:
    table = pa.table({"id": [ID], "simple_prompt": ["a" * (100 * MB)]})
    dataset_of(tmp_path, table, use_dictionary=False, write_statistics=False)
    assert in_a_gigabyte(READ_PUBLISHED, tmp_path, mb=600) == "refused\nrefused"


def test_few_texts_in_very_many_rows_of_a_published_dataset_are_refused(tmp_path: Path) -> None:
    text = pa.array(["a" * (4 * MB)])
    prompts = pa.DictionaryArray.from_arrays(pa.array([0] * 300), text)
    table = pa.table({"id": [ID] * 300, "simple_prompt": prompts})
    options = {"store_schema": False, "dictionary_pagesize_limit": 1 << 30}
    dataset_of(tmp_path, table, write_statistics=False, **options)
    assert in_a_gigabyte(READ_PUBLISHED, tmp_path, mb=600) == "refused\nrefused"


def test_rows_that_a_published_dataset_does_not_hold_are_told(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, pa.table({"id": [ID]}), rows=10**12)
    for read in (lambda: list(batches(dataset, "train")), lambda: row_reader(dataset, "train", [])):
        with pytest.raises(WorkspaceError, match=r"has 1 rows, but surd-dataset.json says"):
            read()


def test_a_footer_that_aborts_arrow_is_no_published_dataset(tmp_path: Path) -> None:
    dataset = dataset_of(tmp_path, pa.table({"id": [ID]}))
    (tmp_path / "train.parquet").write_bytes((CORPUS / "parquet-aborts-arrow").read_bytes()[1:])
    with pytest.raises(WorkspaceError, match=r"train.parquet: cannot be read"):
        list(batches(dataset, "train"))


CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus" / "archive"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("parquet-aborts-arrow", "damaged"),  # Arrow ends the process that asks for its columns
        ("parquet-column-elsewhere", "row group 0 is damaged"),
        ("parquet-damaged-footer", "not a Parquet file"),
        ("parquet-schema-no-utf8", "not a Parquet file"),
    ],
)
def test_a_footer_that_lies_about_its_columns_is_one_line(
    tmp_path: Path, name: str, told: str
) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes((CORPUS / name).read_bytes()[1:])
    with pytest.raises(SourceError, match=told) as caught:
        list(rows_of_images(HuggingFaceSource(path=str(path)), None))
    assert "\n" not in str(caught.value)
    files = LocalFiles()
    assert files.read(f"{path}::image/0", 1000).status == "unreadable_file"
    files.close()


def test_zeros_are_no_pages(tmp_path: Path) -> None:
    path = write_cells(tmp_path / "a.parquet", [bytes(MB)], dictionary=False)
    groups = groups_of(path)
    data = bytearray(path.read_bytes())
    first = groups[0].columns[0].offset
    data[first : first + MB] = bytes(MB)
    path.write_bytes(data)
    with path.open("rb") as file:
        assert not parquet_pages._walk(file, groups[0].columns[0]).is_whole
