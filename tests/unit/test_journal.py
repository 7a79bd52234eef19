"""Rows of unfinished parts, kept for the next run."""

from __future__ import annotations

import zlib
from pathlib import Path

import pyarrow as pa
import pytest

from surd.errors import WorkspaceError
from surd.store import journal
from surd.store.storage import Storage


def rows(*numbers: int) -> pa.Table:
    return pa.table({"id": [str(n) for n in numbers], "n": list(numbers)})


def kept(storage: Storage, *parts: int) -> list[list[int]]:
    return [table["n"].to_pylist() for table in journal.read(storage, "things", parts)]


@pytest.fixture
def local(tmp_path: Path) -> Storage:
    return Storage(str(tmp_path))


@pytest.fixture
def remote(tmp_path: Path) -> Storage:
    return Storage(f"memory://{tmp_path.name}")


def test_what_is_appended_is_there_at_once_on_a_local_disk(local: Storage) -> None:
    one, other = (journal.Journal(local, "things", part) for part in (3, 12))
    one.append(rows(1, 2))
    other.append(rows(7))
    one.append(rows(3))
    assert kept(local, 3) == [[1, 2], [3]]
    assert kept(local, 12) == [[7]]
    assert kept(local, 1) == []
    one.delete()
    assert kept(local, 3, 12) == [[7]]


def test_a_record_that_is_cut_off_anywhere_ends_what_counts(local: Storage) -> None:
    one = journal.Journal(local, "things", 0)
    for number in range(3):
        one.append(rows(number))
    (path,) = Path(local.root).glob("things/.unfinished/*")
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        count = length // (len(whole) // 3)
        assert kept(local, 0) == [[number] for number in range(count)]


def test_a_flipped_bit_anywhere_costs_rows_and_gives_no_others(local: Storage) -> None:
    one = journal.Journal(local, "things", 0)
    for number in range(2):
        one.append(rows(number))
    (path,) = Path(local.root).glob("things/.unfinished/*")
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 8]) + whole[at + 1 :])
        assert kept(local, 0) == ([] if at < len(whole) // 2 else [[0]])


def test_parts_are_forgotten_when_they_are_finished_and_the_folder_with_the_last(
    local: Storage,
) -> None:
    for part in (0, 1):
        journal.Journal(local, "things", part).append(rows(part))
    journal.tidy(local, "things", [0])
    assert kept(local, 0, 1) == [[1]]
    journal.tidy(local, "things", [0, 1])
    assert local.names("things") == []
    journal.tidy(local, "things", [0, 1])


def test_an_object_store_gets_an_object_now_and_then_and_the_rest_on_an_error(
    remote: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted() -> None:
        with journal.Journal(remote, "things", 0) as one:
            one.append(rows(1))
            one.append(rows(2))
            assert kept(remote, 0) == []
            with monkeypatch.context() as patch:
                patch.setattr(journal, "REMOTE_EVERY_S", -1.0)
                one.append(rows(3))
            assert kept(remote, 0) == [[1], [2], [3]]
            one.append(rows(4))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert kept(remote, 0) == [[1], [2], [3], [4]]
    assert len(remote.names("things/.unfinished")) == 2
    journal.tidy(remote, "things", [0])
    assert remote.names("things/.unfinished") == []


def test_a_part_that_is_finished_soon_costs_an_object_store_nothing(remote: Storage) -> None:
    with journal.Journal(remote, "things", 0) as one:
        one.append(rows(1))
        one.delete()
    assert remote.names("things/.unfinished") == []


def test_where_nothing_can_be_written_one_line_says_so(local: Storage) -> None:
    (Path(local.root) / "things").write_text("a file where the folder should be")
    with pytest.raises(WorkspaceError, match=r"cannot write things/\.unfinished/.*fix that"):
        journal.Journal(local, "things", 0).append(rows(1))


@pytest.mark.parametrize(
    "content",
    [
        b"no table",
        journal._record(pa.table({"id": ["0"], "n": [7]})).replace(b"id", b"\xffd")[12:],
        journal._record(pa.table({"id": ["0" * 8], "n": [7]})).replace(b"0" * 8, b"\xff" * 8)[12:],
    ],
    ids=["no table", "name", "text"],
)
def test_a_record_that_is_no_table_ends_what_counts(local: Storage, content: bytes) -> None:
    one = journal.Journal(local, "things", 0)
    one.append(rows(1))
    (path,) = Path(local.root).glob("things/.unfinished/*")
    record = journal._HEAD.pack(len(content), zlib.crc32(content)) + content
    path.write_bytes(path.read_bytes() + record + path.read_bytes())
    assert kept(local, 0) == [[1]]
