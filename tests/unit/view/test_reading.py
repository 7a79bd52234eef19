"""Single rows, and how much of a part is read for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support_publish import make_workspace, sample, samples

from surd.store.aligned import read_row
from surd.store.workspace import DamagedPartError, Workspace
from surd.view.reading import RowReader


def _bytes(reader: RowReader, row: int) -> bytes:
    data: bytes = read_row(reader, 0, row, {"images": ["bytes"]})["images"]["bytes"]
    return data


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Ten samples in row groups of four."""
    return make_workspace(tmp_path / "w", [samples(10)])


def test_every_row_is_found_in_its_row_group(workspace: Workspace) -> None:
    reader = RowReader(workspace)
    ids = [read_row(reader, 0, row, {"samples": ()})["samples"]["id"] for row in range(10)]
    assert ids == [sample(n)["id"] for n in range(10)]


def test_neighbours_are_read_together_and_others_not_at_all(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    around = Workspace.read_around

    def counted(self, group, part, row, columns):
        first, table = around(self, group, part, row, columns)
        read.append(table.num_rows)
        return first, table

    monkeypatch.setattr(Workspace, "read_around", counted)
    reader = RowReader(workspace)
    for row in (4, 5, 6, 7, 4, 9):
        _bytes(reader, row)
    assert read == [4, 2]
    reader.forget()
    _bytes(reader, 4)
    assert read == [4, 2, 4]


def test_what_is_held_is_bounded(workspace: Workspace) -> None:
    reader = RowReader(workspace, cache_bytes=1)
    for row in (0, 4, 8, 0):
        assert _bytes(reader, row) == sample(row)["bytes"]
    assert len(reader._held) == 0


def test_what_is_held_is_counted_once_where_a_part_has_grown(tmp_path: Path) -> None:
    """As for a picture, which is read without a look at what has changed."""
    where = tmp_path / "w"
    columns = {"clip": ["cos_simple"]}
    reader = RowReader(make_workspace(where, [samples(3)]))
    read_row(reader, 0, 0, columns)
    make_workspace(where, [samples(10)])
    read_row(reader, 0, 3, columns)
    assert len(reader._held) == 1
    assert reader._bytes == sum(table.nbytes for _, table in reader._held.values())


def test_a_stage_that_has_not_come_so_far_gives_nothing(workspace: Workspace) -> None:
    reader = RowReader(workspace)
    assert read_row(reader, 7, 0, {"clip": ["cos_simple"]}) == {"clip": {}}
    assert read_row(reader, 0, 10, {"clip": ["cos_simple"]}) == {"clip": {}}


def test_a_damaged_part_is_told_and_not_taken_for_a_missing_one(workspace: Workspace) -> None:
    Path(workspace.location, "clip", "part-00000.parquet").write_bytes(b"no parquet")
    with pytest.raises(DamagedPartError):
        read_row(RowReader(workspace), 0, 0, {"clip": ["cos_simple"]})
