"""What a stranger's table names on this machine's disk."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from surd.files.images import ImageProblem, read_header
from surd.files.local_files import LocalFiles
from surd.sources.huggingface import HuggingFaceSource
from surd.sources.huggingface import pages as huggingface_pages
from surd.sources.table import TableSource
from surd.sources.table import pages as table_pages

SECRETS = ("/etc/passwd", "../secret.png", "a/../../secret.png", "a::/../../secret.png")


@pytest.mark.parametrize("written", SECRETS)
@pytest.mark.parametrize("column", ["path", "file_name"])
def test_a_table_names_nothing_outside_of_its_folder(
    tmp_path: Path, written: str, column: str, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "table"
    folder.mkdir()
    (tmp_path / "secret.png").touch()
    rows = f"{written},http://a/1,p\n{written},,q\nb.png,,r\n"
    (folder / "t.csv").write_text(f"{column},url,prompt\n{rows}")
    pages = table_pages(TableSource(path=str(folder / "t.csv"), id_column="prompt"), None)
    paths = [record.path for page in pages for record in page.records]
    assert paths == [None, f"{folder}/b.png"]
    assert "images_root" in caplog.text


@pytest.mark.parametrize("written", SECRETS[:3])
@pytest.mark.parametrize("whole_folder", [False, True])
def test_a_dataset_names_nothing_outside_of_its_folder(
    tmp_path: Path, written: str, whole_folder: bool
) -> None:
    folder = tmp_path / "hf"
    (folder / "data").mkdir(parents=True)
    for name in ("secret.png", "hf/good.png", "hf/data/good.png"):
        (tmp_path / name).touch()
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [{"bytes": None, "path": written}, {"bytes": None, "path": "good.png"}]
    table = folder / "data" / "t.parquet"
    pq.write_table(pa.table({"image": pa.array(cells, struct), "text": ["a", "b"]}), table)
    source = HuggingFaceSource(path=str(folder if whole_folder else table))
    found = [record.path for page in huggingface_pages(source, None) for record in page.records]
    assert found == [f"{folder}/data/good.png"]


@pytest.mark.parametrize("name", ["a.png", "a.zip::b.png", "a.tar::b.png", "a.parquet::b/0"])
def test_a_pipe_is_not_waited_for(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / name.partition("::")[0])
    files = LocalFiles()
    fetched = files.read(f"{tmp_path}/{name}", 100)
    files.close()
    assert (fetched.status, fetched.detail) == ("unreadable_file", "no regular file")


def test_what_is_said_of_a_file_that_is_no_image_has_none_of_its_bytes() -> None:
    with pytest.raises(ImageProblem) as caught:
        read_header(b"hunter2 is my password", max_pixels=100)
    assert str(caught.value) == "not_an_image: no format that surd knows"
