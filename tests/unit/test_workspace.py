"""The workspace: parts that are there whole or not at all, and a manifest that says what it is."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surd.errors import WorkspaceError
from surd.store import checksums
from surd.store.checksums import FOOTER_KEY, ROW_KEYS, unsealed
from surd.store.part_writer import PartWriter
from surd.store.storage import Storage
from surd.store.workspace import (
    FORMAT_VERSION,
    MANIFEST,
    DamagedPartError,
    Manifest,
    PartInfo,
    Workspace,
    part_name,
)

NETWORK = pa.struct([pa.field("name", pa.string()), pa.field("weight", pa.float32())])
SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("count", pa.int32()),
        pa.field("ok", pa.bool_()),
        pa.field("networks", pa.list_(NETWORK)),
        pa.field("bytes", pa.large_binary()),
        pa.field("sha256", pa.string()),
    ]
)
Make = Callable[[], Workspace]


def rows(count: int, start: int = 0) -> pa.Table:
    """Rows with nulls, lists and bytes; row n depends on n alone."""
    made = [
        {
            "id": f"{n:032x}",
            "count": None if n % 3 == 0 else n,
            "ok": None if n % 5 == 0 else n % 2 == 0,
            "networks": [{"name": "lora", "weight": n / 4}] * (n % 3) if n % 4 else None,
            "bytes": bytes([n % 256]) * 40,
            "sha256": f"{n:064x}",
        }
        for n in range(start, start + count)
    ]
    return pa.Table.from_pylist(made, schema=SCHEMA)


def write(
    workspace: Workspace, *tables: pa.Table, part: int = 0, group: str = "things", cut: int = 4
) -> PartInfo:
    with workspace.writing_part(group, part, SCHEMA, cut) as writer:
        for table in tables:
            writer.write(table)
        writer.describe(
            fingerprint="f" * 32, settings="s" * 32, inputs={"samples": "d"}, extra={"counts": {}}
        )
    info = workspace.part_info(group, part)
    assert info is not None
    return info


def break_while_writing(workspace: Workspace, error: BaseException) -> None:
    with workspace.writing_part("things", 0, SCHEMA, 4) as writer:
        writer.write(rows(9))
        raise error


def files_below(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture(params=["local", "memory"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """A workspace in a folder, and one behind an fsspec url."""
    if request.param == "local":
        return Workspace(tmp_path / "made" / "on-demand")
    return Workspace(f"memory://{uuid.uuid4().hex}/deep")


@pytest.fixture
def local(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


# Parts


def test_what_is_written_is_read_back(workspace: Workspace) -> None:
    info = write(workspace, rows(10))
    assert workspace.read("things", 0).equals(rows(10))
    assert (info.rows, info.fingerprint, info.settings) == (10, "f" * 32, "s" * 32)
    assert (info.inputs, info.extra) == ({"samples": "d"}, {"counts": {}})


def test_asked_columns_alone_are_read(workspace: Workspace) -> None:
    write(workspace, rows(3))
    assert workspace.read("things", 0, ["count", "id"]).column_names == ["count", "id"]


def test_batches_have_the_asked_size_across_row_groups(workspace: Workspace) -> None:
    write(workspace, rows(10), cut=4)
    batches = list(workspace.read_batches("things", 0, ("id",), 3))
    assert [batch.num_rows for batch in batches] == [3, 3, 3, 1]
    assert pa.concat_tables(batches)["id"].to_pylist() == rows(10)["id"].to_pylist()


def test_a_part_without_rows_is_a_part(workspace: Workspace) -> None:
    assert write(workspace, rows(0)).rows == 0
    assert workspace.read("things", 0).equals(rows(0))
    assert list(workspace.read_batches("things", 0, None, 5)) == []


def test_parts_are_listed_in_order_and_other_files_are_not_parts(local: Workspace) -> None:
    for part in (10, 2, 100_000, 99_999):
        write(local, rows(1), part=part)
    local.record_failure("things", 3, "boom")
    for name in ("part-.parquet", "part-x.parquet", "notes.txt", ".part-00001.parquet.7.tmp"):
        Path(local.location, "things", name).touch()
    assert local.parts("things") == [2, 10, 99_999, 100_000]


def test_a_group_that_was_never_written_has_no_parts(workspace: Workspace) -> None:
    assert workspace.parts("things") == []
    assert workspace.part_info("things", 0) is None


def test_reading_a_part_that_is_not_there_says_so(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match=r"things/part-00007\.parquet: missing"):
        workspace.read("things", 7)


def test_a_part_written_again_replaces_the_old_one(workspace: Workspace) -> None:
    write(workspace, rows(10))
    write(workspace, rows(2))
    assert workspace.read("things", 0).equals(rows(2))


def test_footers_that_have_not_changed_are_read_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    for part in (0, 1):
        write(workspace, rows(3 + part), part=part)
    open_binary = Storage.open_binary

    def watched(storage: Storage, name: str) -> object:
        opened.append(name)
        return open_binary(storage, name)

    monkeypatch.setattr(Storage, "open_binary", watched)
    monkeypatch.setattr("surd.store.workspace._INFOS", {})
    looker = Workspace(workspace.location)  # who has seen nothing yet
    for _ in range(2):
        look = looker.part_infos("things", "others")
        found = [look("things", part) for part in (0, 1)]
        assert [info and info.rows for info in found] == [3, 4]
    assert opened == [part_name("things", part) for part in (0, 1)]
    assert look("others", 0) is None and look("things", 2) is None
    write(workspace, rows(7), part=1)
    workspace.storage.delete(part_name("things", 0))
    look = looker.part_infos("things")
    again = look("things", 1)
    assert again is not None and again.rows == 7
    assert look("things", 0) is None


def test_where_a_listing_tells_sizes_alone_footers_are_read_each_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    remote = Workspace(f"memory://{uuid.uuid4().hex}")
    info = write(remote, rows(3))
    list_folder = remote.storage.fs.ls

    def sizes(*args: object, **how: object) -> list[dict[str, object]]:
        return [{"name": one["name"], "size": 7} for one in list_folder(*args, **how)]

    monkeypatch.setattr(remote.storage.fs, "ls", sizes)
    assert remote.part_infos("things")("things", 0) == info
    other = Workspace(remote.location)  # as another process writes, whom nobody tells
    write(other, rows(3, start=3))
    assert remote.part_infos("things")("things", 0) == other.part_info("things", 0) != info


def test_a_store_that_cannot_be_listed_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    remote = Workspace(f"memory://{uuid.uuid4().hex}")

    def refused(*args: object, **how: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(remote.storage.fs, "ls", refused)
    with pytest.raises(WorkspaceError, match=r"cannot list things: no route to host; check"):
        remote.part_infos("things")


def test_writing_the_same_rows_twice_gives_the_same_bytes(workspace: Workspace) -> None:
    write(workspace, rows(10))
    first = workspace.storage.read_bytes(part_name("things", 0))
    write(workspace, rows(6), rows(4, start=6))
    assert workspace.storage.read_bytes(part_name("things", 0)) == first


# Atomicity


def test_an_error_while_writing_leaves_neither_part_nor_temporary_file(local: Workspace) -> None:
    with pytest.raises(RuntimeError, match="the stage broke"):
        break_while_writing(local, RuntimeError("the stage broke"))
    assert files_below(Path(local.location)) == []


def test_an_error_while_writing_keeps_the_part_there_was(workspace: Workspace) -> None:
    before = write(workspace, rows(3))
    with pytest.raises(KeyboardInterrupt):
        break_while_writing(workspace, KeyboardInterrupt())
    assert workspace.part_info("things", 0) == before
    assert workspace.storage.names("things") == ["part-00000.parquet"]


def test_rows_of_another_shape_are_refused_and_leave_nothing(local: Workspace) -> None:
    with (
        pytest.raises(ValueError, match="names"),
        local.writing_part("things", 0, SCHEMA, 4) as writer,
    ):
        writer.write(rows(3).drop_columns(["count"]))
    assert files_below(Path(local.location)) == []


def test_a_part_is_not_there_before_its_block_ends(workspace: Workspace) -> None:
    with workspace.writing_part("things", 0, SCHEMA, 4) as writer:
        writer.write(rows(9))
        assert workspace.part_info("things", 0) is None
        assert workspace.parts("things") == []


def test_leftovers_of_a_killed_run_are_removed_and_nothing_else(local: Workspace) -> None:
    write(local, rows(1))
    left = Path(local.location, "things", ".part-00001.parquet.00c0ffee.tmp")
    left.write_bytes(b"half")
    Path(local.location, "things", ".thesis.tmp").write_bytes(b"mine")
    local.storage.remove_leftovers("things")
    assert files_below(Path(local.location)) == ["things/.thesis.tmp", "things/part-00000.parquet"]


def test_a_remote_upload_leaves_no_temporary_file_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    remote = Workspace(f"memory://{uuid.uuid4().hex}")
    write(remote, rows(3))
    with pytest.raises(RuntimeError):
        break_while_writing(remote, RuntimeError())
    assert files_below(tmp_path) == []


# Damage


def damaged(workspace: Workspace, change: Callable[[bytes], bytes]) -> None:
    path = Path(workspace.location, part_name("things", 0))
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("kept", [0.0, 0.01, 0.3, 0.6, 0.9, 0.999])
def test_a_truncated_part_is_damaged(local: Workspace, kept: float) -> None:
    write(local, rows(20))
    damaged(local, lambda data: data[: int(len(data) * kept)])
    with pytest.raises(DamagedPartError, match=r"part-00000\.parquet: damaged .*again"):
        local.part_info("things", 0)
    with pytest.raises(DamagedPartError):
        local.read("things", 0)


@pytest.mark.parametrize("column", range(6))
@pytest.mark.parametrize("row_group", [0, 2])
def test_a_flipped_bit_in_a_page_is_found_when_it_is_read(
    local: Workspace, column: int, row_group: int
) -> None:
    write(local, rows(20), cut=8)
    path = Path(local.location, part_name("things", 0))
    chunk = pq.read_metadata(path).row_group(row_group).column(column)
    last = chunk.data_page_offset + _length_to_end(chunk) - 1
    damaged(local, lambda data: data[:last] + bytes([data[last] ^ 1]) + data[last + 1 :])
    with pytest.raises(DamagedPartError, match="damaged"):
        local.read("things", 0)
    with pytest.raises(DamagedPartError, match="damaged"):
        list(local.read_batches("things", 0, None, 5))


def _length_to_end(chunk: object) -> int:
    start = chunk.dictionary_page_offset or chunk.data_page_offset  # type: ignore[attr-defined]
    return start + chunk.total_compressed_size - chunk.data_page_offset  # type: ignore[attr-defined]


def test_whoever_skims_a_part_gets_its_row_groups_without_checksums_of_pages(
    workspace: Workspace, local: Workspace
) -> None:
    write(workspace, rows(9), cut=4)
    wanted = rows(9).select(["id", "bytes"])
    found = list(workspace.skim("things", 0, ["id", "bytes"]))
    assert [len(table) for table in found] == [4, 4, 1]
    assert pa.concat_tables(found).equals(wanted)

    write(local, rows(9), cut=4)
    path = Path(local.location, part_name("things", 0))
    data = path.read_bytes()
    path.write_bytes(data.replace(bytes([8]) * 40, bytes([8]) * 39 + b"x"))
    *_, last = local.skim("things", 0, ["bytes"])
    assert last["bytes"].to_pylist() == [bytes([8]) * 39 + b"x"]
    with pytest.raises(DamagedPartError):
        local.read("things", 0, ["bytes"])


def test_a_parquet_file_of_someone_else_is_not_trusted(local: Workspace) -> None:
    Path(local.location, "things").mkdir()
    pq.write_table(rows(3), Path(local.location, part_name("things", 0)))
    with pytest.raises(DamagedPartError, match="not written by surd"):
        local.part_info("things", 0)


@pytest.mark.parametrize(
    "odd",
    [
        {"fingerprint": 1}, {"inputs": []}, {"inputs": {"samples": None}}, {"extra": []},
        {"extra": {"counts": {"ok": "2"}}}, {"extra": {"counts": []}}, {"extra": {"llm": 1}},
    ],
)  # fmt: skip
def test_a_footer_with_words_of_other_kinds_is_not_trusted(
    local: Workspace, odd: dict[str, Any]
) -> None:
    plain = {"fingerprint": "f", "digest": "d", "settings": "s", "inputs": {}, "extra": {}}
    Path(local.location, "things").mkdir()
    for part, said in enumerate((plain, plain | odd)):
        table = rows(3).replace_schema_metadata({FOOTER_KEY: json.dumps(said)})
        pq.write_table(table, Path(local.location, part_name("things", part)))
    assert local.part_info("things", 0) is not None
    with pytest.raises(DamagedPartError, match="not written by surd"):
        local.part_info("things", 1)


@pytest.mark.parametrize("keys", [b"abc", b"AAAA", b"AAAAAAAAAAA="])
def test_row_keys_that_are_none_are_damage(local: Workspace, keys: bytes) -> None:
    Path(local.location, "things").mkdir()
    table = rows(3).replace_schema_metadata({ROW_KEYS: keys})
    pq.write_table(table, Path(local.location, part_name("things", 0)))
    with pytest.raises(DamagedPartError, match="row keys"):
        list(local.keyed("things", 0))


def test_a_file_that_is_no_parquet_at_all_is_damaged(local: Workspace) -> None:
    Path(local.location, "things").mkdir()
    Path(local.location, part_name("things", 0)).write_bytes(b"<html>" * 100)
    with pytest.raises(DamagedPartError):
        local.part_info("things", 0)


def test_a_damaged_remote_part_is_damaged_too() -> None:
    remote = Workspace(f"memory://{uuid.uuid4().hex}")
    write(remote, rows(20))
    data = remote.storage.read_bytes(part_name("things", 0))
    remote.storage.write_bytes(part_name("things", 0), data[:-20])
    with pytest.raises(DamagedPartError):
        remote.part_info("things", 0)


# Digests


@given(st.lists(st.integers(0, 9), min_size=1, max_size=8), st.integers(1, 7))
@settings(derandomize=True, max_examples=60)
def test_the_digest_does_not_depend_on_how_rows_were_cut(lengths: list[int], cut: int) -> None:
    total = sum(lengths)
    whole, at, slices = rows(total), 0, []
    for length in lengths:
        slices.append(whole.slice(at, length))
        at += length
    workspace = Workspace(f"memory://{uuid.uuid4().hex}")
    expected = write(workspace, whole, part=0, cut=cut).digest
    assert write(workspace, *slices, part=1, cut=cut).digest == expected
    fresh = [pa.Table.from_pylist(s.to_pylist(), schema=SCHEMA) for s in slices]
    assert write(workspace, *fresh, part=2, cut=cut).digest == expected


def test_rows_taken_from_a_longer_table_have_the_digest_of_rows_made_alone(
    local: Workspace,
) -> None:
    alone = write(local, rows(3), part=0).digest
    from_start = write(local, rows(50).slice(0, 3), part=1).digest
    longer = pa.concat_tables([rows(5, start=100), rows(50)]).combine_chunks()
    from_middle = write(local, longer.slice(5, 3), part=2).digest
    assert from_start == alone
    assert from_middle == alone


def test_groups_that_no_model_computes_have_larger_row_groups_and_the_same_digest(
    local: Workspace,
) -> None:
    schema = pa.schema([pa.field("n", pa.int32())])
    table, digests, sizes = pa.table([range(12_345)], schema=schema), set(), {}
    for group in ("samples", "prompts", "captions"):
        with local.writing_part(group, 0, schema) as writer:
            writer.write(table)
            writer.describe(fingerprint="", settings="", inputs={}, extra={})
        footer = pq.read_metadata(Path(local.location, part_name(group, 0)))
        sizes[group] = footer.row_group(0).num_rows
        digests.add(local.part_info(group, 0).digest)
    assert sizes == {"samples": 10_000, "prompts": 10_000, "captions": 2_000}
    assert len(digests) == 1


def test_what_lies_in_memory_beneath_a_null_does_not_change_the_digest(local: Workspace) -> None:
    schema = pa.schema([pa.field("count", pa.int32())])
    digests = []
    for part, beneath in enumerate((0, 77)):
        values = pa.py_buffer(b"".join(n.to_bytes(4, "little") for n in (1, beneath, 3)))
        column = pa.Array.from_buffers(pa.int32(), 3, [pa.py_buffer(b"\x05"), values])
        assert column.to_pylist() == [1, None, 3]
        with local.writing_part("numbers", part, schema, 3) as writer:
            writer.write(pa.table({"count": column}, schema=schema))
            digests.append(writer.digest)
    assert digests[0] == digests[1]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", "another"),
        ("count", 7),
        ("count", None),
        ("ok", False),
        ("ok", None),
        ("networks", []),
        ("networks", [{"name": "lora", "weight": 0.75}]),
        ("networks", [{"name": None, "weight": 1.0}]),
        ("sha256", "0"),
    ],
)
def test_the_digest_changes_with_any_value(local: Workspace, column: str, value: object) -> None:
    changed = rows(6).to_pylist()
    assert changed[4][column] != value
    changed[4][column] = value
    other = pa.Table.from_pylist(changed, schema=SCHEMA)
    assert write(local, rows(6), part=0).digest != write(local, other, part=1).digest


def test_the_digest_changes_with_the_order_and_the_number_of_rows(local: Workspace) -> None:
    tables = [rows(6), rows(6).take([1, 0, 2, 3, 4, 5]), rows(5), rows(7), rows(0)]
    digests = {write(local, table, part=part).digest for part, table in enumerate(tables)}
    assert len(digests) == len(tables)


# Failures


def test_a_failure_is_remembered_until_the_part_is_written(workspace: Workspace) -> None:
    assert workspace.failure("things", 0) is None
    workspace.record_failure("things", 0, "ValueError: naïve 🐙")
    assert workspace.failure("things", 0) == "ValueError: naïve 🐙"
    write(workspace, rows(1))
    assert workspace.failure("things", 0) is None


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b"[]", b"\xff"])
def test_a_failure_that_cannot_be_read_is_no_failure(local: Workspace, content: bytes) -> None:
    local.storage.write_bytes("things/part-00000.failed.json", content)
    assert local.failure("things", 0) is None


# Manifest


def test_the_manifest_is_read_back_as_written(workspace: Workspace) -> None:
    assert not workspace.has_manifest()
    manifest = Manifest(recipe={"name": "x"}, versions={"surd": "1"})
    workspace.write_manifest(manifest)
    assert workspace.has_manifest()
    assert workspace.read_manifest() == manifest


def test_a_folder_without_manifest_is_no_workspace(workspace: Workspace) -> None:
    with pytest.raises(WorkspaceError, match=r"not a surd workspace .*surd build RECIPE -o DIR"):
        workspace.read_manifest()


def test_a_file_is_no_workspace(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(WorkspaceError, match="not a surd workspace"):
        Workspace(tmp_path / "a.png").read_manifest()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "unreadable"),
        (b'{"format_version": 1', "unreadable"),
        (b"\xff\xfe", "unreadable"),
        (b"[]", "unreadable"),
        (b"null", "unreadable"),
        (b"{}", "unreadable"),
        (b'{"format_version": 1}', "recipe: Field required"),
        (b'{"format_version": 1, "recipe": 3}', "recipe: "),
        (b'{"format_version": 1, "recipe": {}, "stages": {"x": {}}}', r"stages\.x\.parts: "),
    ],
)
def test_a_broken_manifest_is_one_line_that_says_what_to_do(
    local: Workspace, content: bytes, says: str
) -> None:
    local.storage.write_bytes(MANIFEST, content)
    with pytest.raises(WorkspaceError, match=says) as caught:
        local.read_manifest()
    assert "\n" not in str(caught.value)
    assert f"run surd build RECIPE -o {local.location} again" in str(caught.value)


@pytest.mark.parametrize("version", [FORMAT_VERSION + 1, "1", None, 1.5])
def test_a_newer_or_unknown_format_is_refused_with_its_number(
    local: Workspace, version: object
) -> None:
    content = json.dumps({"format_version": version, "what": "ever"}).encode()
    local.storage.write_bytes(MANIFEST, content)
    with pytest.raises(WorkspaceError, match=f"workspace format {version}.*pip install -U surd"):
        local.read_manifest()


# Storage


def test_a_location_of_an_unknown_kind_is_an_error_of_one_line() -> None:
    with pytest.raises(WorkspaceError, match="nosuch://bucket"):
        Workspace("nosuch://bucket/x")


def test_a_file_where_the_workspace_should_be_is_named(tmp_path: Path) -> None:
    file = tmp_path / "taken"
    file.write_text("here first")
    workspace = Workspace(file)
    with pytest.raises(WorkspaceError, match=r"taken.*choose another folder$"), workspace.locked():
        pass
    with pytest.raises(WorkspaceError, match=r"taken.*cannot create this folder.*another$"):
        write(workspace, rows(1))
    with pytest.raises(WorkspaceError, match="taken"):
        workspace.read_manifest()
    assert workspace.parts("things") == []
    assert file.read_text() == "here first"


@pytest.mark.skipif(
    sys.platform == "win32" or (hasattr(os, "geteuid") and os.geteuid() == 0),
    reason="root and Windows may write anywhere",
)
def test_a_folder_without_write_permission_is_named(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(WorkspaceError, match="permissions"), Workspace(tmp_path).locked():
            pass
        with pytest.raises(WorkspaceError, match="cannot create"):
            write(Workspace(tmp_path), rows(1))
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a file system of the kernel")
def test_a_place_nobody_can_write_to_is_named() -> None:
    with (
        pytest.raises(WorkspaceError, match=r"/proc/surd.*another folder"),
        Workspace("/proc/surd").locked(),
    ):
        pass


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a disk that is always full")
def test_a_full_disk_is_an_error_that_names_the_file(local: Workspace) -> None:
    with (
        pytest.raises(WorkspaceError, match=r"cannot write surd\.json: No space left on device"),
        local.storage.writing(MANIFEST),
        io.FileIO("/dev/full", "w") as full,
    ):
        full.write(b"x")
    assert files_below(Path(local.location)) == []


def test_deleting_what_is_not_there_is_no_error(workspace: Workspace) -> None:
    workspace.storage.delete("things/nothing")


def test_a_files_content_is_replaced_as_a_whole(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    storage.write_bytes("a/b.txt", b"long content")
    storage.write_bytes("a/b.txt", b"new")
    assert storage.read_bytes("a/b.txt") == b"new"
    assert storage.names("a") == ["b.txt"]


# Lock


def test_a_workspace_is_written_by_one_at_a_time(local: Workspace) -> None:
    with (
        local.locked(),
        pytest.raises(WorkspaceError, match="another surd process is writing here"),
        Workspace(local.location).locked(),
    ):
        pass
    with Workspace(local.location).locked():
        pass


def test_another_process_finds_the_workspace_locked(local: Workspace) -> None:
    program = (
        "import sys; from surd.store.workspace import Workspace\n"
        "try:\n    with Workspace(sys.argv[1]).locked(): print('free')\n"
        "except Exception as error: print(error)"
    )

    def other() -> str:
        command = [sys.executable, "-c", program, local.location]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with local.locked():
        assert "another surd process is writing here" in other()
    assert other() == "free\n"


def test_the_lock_is_released_after_an_error(local: Workspace) -> None:
    with pytest.raises(RuntimeError), local.locked():
        raise RuntimeError
    with local.locked():
        pass


def test_a_remote_workspace_has_one_writer_of_the_same_process_too() -> None:
    remote = Workspace(f"memory://{uuid.uuid4().hex}")
    other = Workspace(remote.location)
    with remote.locked():
        with pytest.raises(WorkspaceError, match="another surd process is writing"), other.locked():
            pass
        remote.storage.write_bytes("a", b"still ours")
    with other.locked():
        pass


def test_a_footer_is_read_again_only_once_the_file_has_changed(
    local: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(local, rows(3))
    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "_opened", None)  # whoever opens it fails
        assert local.part_info("things", 0) == first
        assert Workspace(local.location).part_info("things", 0) == first
    assert write(local, rows(5)).rows == 5
    local.storage.delete("things/part-00000.parquet")
    assert local.part_info("things", 0) is None


def test_what_a_footer_says_of_the_part_is_read_without_what_it_says_of_columns(
    local: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = write(local, rows(3))
    with monkeypatch.context() as patch:
        patch.setattr(checksums, "_parsed", None)  # whoever parses it fails
        patch.setattr("surd.store.workspace._INFOS", {})
        assert Workspace(local.location).part_info("things", 0) == first
        assert first.rows == 3
    finish = PartWriter.finish

    def finish_as_before(writer: PartWriter) -> None:
        finish(writer)
        text = json.dumps(
            {**writer._header, "digest": "d", "crc32": unsealed(writer._file.crc)}, sort_keys=True
        )
        writer._writer.add_key_value_metadata({FOOTER_KEY: text.encode()})

    monkeypatch.setattr(PartWriter, "finish", finish_as_before)  # an earlier version's
    then = write(local, rows(4))
    assert then.rows == 4
    assert then.ids == ""


def test_a_part_that_says_it_has_other_rows_is_found_by_verify(
    local: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(local, rows(3))
    local.verify("things", 0)
    header = PartWriter.describe

    def describe(writer: PartWriter, **said: Any) -> None:
        header(writer, **said)
        writer.rows = 10**12

    monkeypatch.setattr(PartWriter, "describe", describe)
    assert write(local, rows(3)).rows == 10**12
    with pytest.raises(DamagedPartError, match="other rows than it says"):
        local.verify("things", 0)


def test_ids_have_a_digest_of_their_own_whatever_the_size_of_row_groups(local: Workspace) -> None:
    assert write(local, rows(9), cut=4).ids == write(local, rows(9), cut=9).ids
    assert write(local, rows(9)).ids != write(local, rows(8)).ids
    assert write(local, rows(9)).ids != write(local, rows(9, start=1)).ids


def test_the_digest_is_what_it_was_in_earlier_versions(local: Workspace) -> None:
    """Another would make everything stale that was computed from a part."""
    assert write(local, rows(9)).digest == "5a2bc82729c9642ce033a4f9801f4f38"
    write_vectors(local)
    info = local.part_info("things", 0)
    assert info is not None and info.digest == "7a5185805ca05c511c177940f8c241d2"


def test_vectors_are_bytes_in_the_file_and_lists_for_whoever_reads(local: Workspace) -> None:
    path = Path(local.location, part_name("things", 0))
    vectors = VECTORS.to_pylist()
    write_vectors(local)
    kinds = [str(kind) for kind in pq.read_schema(path).types]
    assert kinds == ["binary", "fixed_size_binary[4]", "list<element: fixed_size_binary[4]>"]
    assert pq.read_table(path)["free"][0].as_py() == np.array([1.5], "<f2").tobytes()
    assert local.read("things", 0).equals(VECTORS)
    rows, cut = np.array([0, 2]), [table for table, _ in local.keyed("things", 0)]
    assert [t.to_pylist() for t in local.salvage("things", 0)] == [vectors[:2], vectors[2:]]
    assert [t.to_pylist() for t in cut] == [vectors[:2], vectors[2:]]
    assert next(local.read_rows("things", 0, VECTORS.column_names, rows, 9)).to_pylist() == [
        vectors[0],
        vectors[2],
    ]
    assert local.read_around("things", 0, 3, ["pair"])[1]["pair"].to_pylist() == [[3, 4], [5, 6]]


def test_vectors_of_a_part_of_format_1_are_read(
    local: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_vectors(local)
    now = local.part_info("things", 0)
    with monkeypatch.context() as patch:
        patch.setattr("surd.store.vectors._stored_type", lambda type_: type_)
        write_vectors(local)
    kinds = pq.read_schema(Path(local.location, part_name("things", 0))).types
    assert not any(pa.types.is_binary(kind) for kind in kinds)
    assert local.read("things", 0).cast(VECTORS.schema).equals(VECTORS)
    then = local.part_info("things", 0)
    assert then is not None and now is not None and then.digest == now.digest


VECTORS = pa.table(
    {
        "free": pa.array([[1.5], None, [], [2, 3]], pa.list_(pa.float16())),
        "pair": pa.array([[1, 2], None, [3, 4], [5, 6]], pa.list_(pa.float16(), 2)),
        "states": pa.array(
            [[[1, 2], [3, 4]], [], None, [[5, 6]]], pa.list_(pa.list_(pa.float16(), 2))
        ),
    }
)


def write_vectors(workspace: Workspace) -> None:
    with workspace.writing_part("things", 0, VECTORS.schema, row_group_rows=2) as writer:
        writer.write(VECTORS)
        writer.describe(
            fingerprint="f", settings="s", inputs={}, extra={}, row_keys=np.arange(4, dtype="u8")
        )


def test_a_manifest_of_format_1_is_of_this_format_once_it_is_written(local: Workspace) -> None:
    local.storage.write_bytes(MANIFEST, b'{"format_version": 1, "recipe": {"name": "x"}}')
    local.write_manifest(local.read_manifest())
    assert json.loads(local.storage.read_bytes(MANIFEST))["format_version"] == FORMAT_VERSION
