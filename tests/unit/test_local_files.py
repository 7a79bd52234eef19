"""Files inside files: zip members, tar members, and cells of Parquet columns."""

from __future__ import annotations

import io
import random
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from surd.files import archives
from surd.files.local_files import LocalFiles
from surd.files.tar_members import Member, members


def read(path: object, max_bytes: int = 1000) -> tuple[str, bytes | None]:
    files = LocalFiles()
    try:
        fetched = files.read(str(path), max_bytes)
    finally:
        files.close()
    assert fetched.status == "ok" or fetched.detail
    return fetched.status, fetched.body


def write_tar(path: Path, files: dict[str, bytes], format_: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, "w", format=format_) as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def write_images(path: Path, cells: list[bytes | None], group: int = 10) -> Path:
    """A Parquet file with an image column as datasets writes it, and one of plain bytes."""
    images = [None if c is None else {"bytes": c, "path": f"{i}.png"} for i, c in enumerate(cells)]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table(
        {
            "image": pa.array(images, struct),
            "jpg": pa.array(cells, pa.binary()),
            "large": pa.array(cells, pa.large_binary()),
            "text": pa.array([str(i) for i in range(len(cells))]),
        }
    )
    pq.write_table(table, path, row_group_size=group)
    return path


def cells(count: int) -> list[bytes | None]:
    return [f"image {i}".encode() * (i % 7 + 1) for i in range(count)]


# tar


@pytest.mark.parametrize("format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_members_of_every_kind_of_tar_are_read(tmp_path: Path, format_: int) -> None:
    names = ["a.jpg", "f/b.png", "d/" * 60 + "long.jpg"]
    if format_ != tarfile.USTAR_FORMAT:
        names += ["é" * 80 + ".jpg", "x" * 300 + ".jpg"]
    files = {name: name.encode() * 3 for name in names}
    path = write_tar(tmp_path / "a.tar", files, format_)
    for name, data in files.items():
        assert read(f"{path}::{name}", 10_000) == ("ok", data)


def test_of_two_members_of_one_name_the_first_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w") as archive:
        for data in (b"one", b"two"):
            info = tarfile.TarInfo("a.jpg")
            info.size = 3
            archive.addfile(info, io.BytesIO(data))
    assert read(f"{path}::a.jpg") == ("ok", b"one")


def test_a_member_that_is_not_there_is_missing(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.jpg": b"x"})
    assert read(f"{path}::b.jpg")[0] == "missing_file"
    assert read(f"{tmp_path}/b.tar::a.jpg")[0] == "missing_file"


def test_links_devices_and_folders_are_no_members(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    (tmp_path / "secret").write_bytes(b"secret")
    with tarfile.open(path, "w") as archive:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.CHRTYPE):
            info = tarfile.TarInfo(f"{kind!r}.jpg")
            info.type, info.linkname = kind, str(tmp_path / "secret")
            archive.addfile(info)
    assert list(members(path)) == []


def test_a_member_larger_than_allowed_is_not_read_whole(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.jpg": b"x" * 11})
    assert read(f"{path}::a.jpg", 10)[0] == "too_large"
    assert read(f"{path}::a.jpg", 11)[0] == "ok"


@pytest.mark.parametrize("kind", ["gz", "bz2", "xz"])
def test_a_compressed_tar_is_refused_with_the_mend(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, f"w:{kind}") as archive:
        archive.addfile(tarfile.TarInfo("a.jpg"))
    with pytest.raises(ValueError, match="decompress it"):
        list(members(path))
    assert read(f"{path}::a.jpg")[0] == "unreadable_file"


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"x" * 5000, b"<html>" * 500])
def test_what_is_no_tar_is_told(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.tar"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"no tar|damaged"):
        list(members(path))


def test_members_before_the_damage_are_read(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {f"{i}.jpg": b"x" * 600 for i in range(3)})
    whole = path.read_bytes()
    path.write_bytes(whole[: 2 * 1536 + 512 + 10])
    assert read(f"{path}::1.jpg")[0] == "ok"
    assert read(f"{path}::9.jpg")[0] == "unreadable_file"
    path.write_bytes(whole[:3072] + b"garbage!" * 64 + whole[3584:])
    assert read(f"{path}::1.jpg")[0] == "ok"
    assert read(f"{path}::2.jpg")[0] == "unreadable_file"


def test_a_size_below_nothing_does_not_read_for_ever(tmp_path: Path) -> None:
    info = tarfile.TarInfo("a.jpg")
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + (-2048 & 0xFFFF).to_bytes(2, "big")  # base 256, negative
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = tmp_path / "a.tar"
    path.write_bytes(bytes(header) * 4)
    with pytest.raises(ValueError, match=r"no tar|damaged"):
        list(members(path))


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 4000), value=st.integers(0, 255), cut=st.integers(0, 10240))
def test_no_damage_does_worse_than_a_verdict(tmp_path: Path, at: int, value: int, cut: int) -> None:
    path = write_tar(tmp_path / "a.tar", {f"{i}.jpg": b"x" * 100 for i in range(4)})
    data = bytearray(path.read_bytes())
    data[at] = value
    path.write_bytes(data[: max(cut, 600)])
    for i in range(4):
        assert read(f"{path}::{i}.jpg")[0] in {"ok", "missing_file", "unreadable_file"}


def test_members_tell_where_their_bytes_lie(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar", {"a.jpg": b"one", "b.jpg": b""})
    assert list(members(path)) == [Member("a.jpg", 512, 3), Member("b.jpg", 1536, 0)]


# Parquet


@pytest.mark.parametrize("column", ["image", "jpg", "large"])
def test_every_cell_is_read_in_any_order(tmp_path: Path, column: str) -> None:
    path = write_images(tmp_path / "a.parquet", cells(57))
    rows = list(range(57))
    random.Random(3).shuffle(rows)
    files = LocalFiles()
    for row in [*range(57), *reversed(range(57)), *rows, 0, 56, 30, 31, 5]:
        assert files.read(f"{path}::{column}/{row}", 1000).body == cells(57)[row]
    files.close()


def test_rows_asked_for_in_order_are_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_images(tmp_path / "a.parquet", cells(95))
    started: list[int] = []
    original = archives._Table._restart

    def noting(self: archives._Table, column: str, group: int, **options: bool) -> None:
        started.append(group)
        original(self, column, group, **options)

    monkeypatch.setattr(archives._Table, "_restart", noting)
    files = LocalFiles()
    out_of_turn = [row for i in range(0, 95, 8) for row in reversed(range(i, min(i + 8, 95)))]
    for row in out_of_turn:  # as threads ask
        assert files.read(f"{path}::image/{row}", 1000).body == cells(95)[row]
    assert started == [0]
    with ThreadPoolExecutor(8) as pool:
        rows = pool.map(lambda row: files.read(f"{path}::image/{row}", 1000).body, range(95))
        assert list(rows) == cells(95)
    started.clear()
    files.read(f"{path}::image/94", 1000)
    files.close()
    files = LocalFiles()
    files.read(f"{path}::image/94", 1000)
    assert started == [9]  # straight to the row group that has it
    files.close()


def test_the_window_of_kept_rows_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_WINDOW_BYTES", 100_000)
    path = write_images(tmp_path / "a.parquet", [bytes(20_000)] * 60, group=60)
    table = archives._Table(str(path))
    for row in range(60):
        table.head(f"image/{row}", 10)
        held = sum(cells.nbytes for _, cells in table._window)
        assert held <= 200_000
    table.close()


@pytest.mark.parametrize(
    "member",
    ["image/57", "image/-1", "image/x", "image/", "image", "/1", "none/1", "text/1", "image/5"],
)
def test_a_cell_that_is_not_there_is_missing(tmp_path: Path, member: str) -> None:
    given_cells = [None if i == 5 else b"x" for i in range(57)]
    path = write_images(tmp_path / "a.parquet", given_cells)
    assert read(f"{path}::{member}")[0] == "missing_file"


def test_a_cell_larger_than_allowed_is_too_large(tmp_path: Path) -> None:
    path = write_images(tmp_path / "a.parquet", [b"x" * 11])
    assert read(f"{path}::image/0", 10)[0] == "too_large"


def test_a_damaged_row_group_costs_its_own_rows(tmp_path: Path) -> None:
    path = write_images(tmp_path / "a.parquet", [bytes([i]) * 3000 for i in range(40)])
    data = bytearray(path.read_bytes())
    chunk = pq.ParquetFile(path).metadata.row_group(1).column(0)
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + chunk.total_compressed_size] = b"\xff" * chunk.total_compressed_size
    path.write_bytes(data)
    files = LocalFiles()
    statuses = [files.read(f"{path}::image/{row}", 10_000).status for row in range(40)]
    files.close()
    assert statuses == ["ok"] * 10 + ["unreadable_file"] * 10 + ["ok"] * 20


@pytest.mark.parametrize("data", [b"", b"PAR1", b"x" * 1000])
def test_what_is_no_parquet_is_unreadable(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    assert read(f"{path}::image/0")[0] == "unreadable_file"


def test_a_table_may_lie_at_a_url(tmp_path: Path) -> None:
    import fsspec

    path = write_images(tmp_path / "a.parquet", cells(20))
    fsspec.filesystem("memory").pipe_file("/set/a.parquet", path.read_bytes())
    assert read("memory://set/a.parquet::image/13") == ("ok", cells(20)[13])
    assert read("memory://set/b.parquet::image/13")[0] == "missing_file"
    assert read("nonsense://set/b.parquet::image/13")[0] == "unreadable_file"


# What they share


def test_more_archives_than_may_be_open_are_closed_and_opened_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind in (archives._Zip, archives._Tar, archives._Table):
        monkeypatch.setattr(kind, "max_open", 2)
    paths = []
    for i in range(5):
        data = b"%d" % i
        write_tar(tmp_path / f"{i}.tar", {"a": data})
        write_images(tmp_path / f"{i}.parquet", [data])
        with zipfile.ZipFile(tmp_path / f"{i}.zip", "w") as archive:
            archive.writestr("a", data)
        members_ = {"tar": "a", "parquet": "image/0", "zip": "a"}
        paths += [(f"{tmp_path / str(i)}.{k}::{m}", data) for k, m in members_.items()]
    files = LocalFiles()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda item: files.read(item[0], 100).body, paths * 20))
    assert found == [data for _, data in paths * 20]
    assert len(files._archives) <= 6 + 8
    files.close()
