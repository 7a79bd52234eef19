"""The one reader of aligned parts, and that whoever reads several groups refuses other samples."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from support_publish import make_workspace, sample, samples, write_group

from surd.dataset import frame, inspect
from surd.dataset.publish.rows import read_part
from surd.engine.whole_table import read_part as read_stage_part
from surd.llm.part import read_rows
from surd.report.dataset.rows import groups_there, tables
from surd.stages.filter.stage import STAGE as FILTER
from surd.store.aligned import (
    parts_there,
    read_aligned,
    read_batches_aligned,
    read_row,
    side_by_side,
)
from surd.store.part_writer import PartWriter
from surd.store.workspace import DamagedPartError, MissingPartError, Workspace
from surd.training.sentences import sentences_of
from surd.view.index import load

TWO = {"samples": ("prompt",), "clip": ("simple_prompt",)}


def test_every_group_has_a_row_for_each_sample(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(3)])
    found = read_aligned(workspace, 0, TWO)
    assert found["samples"]["id"].to_pylist() == [sample(n)["id"] for n in range(3)]
    assert found["clip"].column_names == ["id", "simple_prompt"]


def test_a_group_that_is_not_there_is_missing_or_null_as_was_asked(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(2)], without=("clip",))
    with pytest.raises(MissingPartError, match=r"clip/part-00000\.parquet: missing"):
        read_aligned(workspace, 0, TWO)
    found = read_aligned(workspace, 0, TWO, there=parts_there(workspace, TWO))
    assert found["clip"]["simple_prompt"].to_pylist() == [None, None]


def test_samples_that_a_stage_has_not_come_to_are_null_or_refused_as_was_asked(
    tmp_path: Path,
) -> None:
    workspace = make_workspace(tmp_path, [samples(2)])
    write_group(workspace, "samples", 0, samples(3))
    found = read_aligned(workspace, 0, TWO, there=parts_there(workspace, TWO))
    assert found["clip"]["simple_prompt"].to_pylist() == ["the red cup 0", "the red cup 1", None]
    with pytest.raises(DamagedPartError, match=r"clip/part-00000.*its samples are not those"):
        read_aligned(workspace, 0, TWO)


def test_ids_are_read_once_where_the_footers_say_they_are_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(tmp_path, [samples(3)])
    before = read_aligned(workspace, 0, TWO | {"images": ()})
    asked: list[list[str]] = []
    read = Workspace.read

    def reading(self: Workspace, group: str, part: int, columns: list[str]) -> pa.Table:
        asked.append(columns)
        return read(self, group, part, columns)

    with monkeypatch.context() as patch:
        patch.setattr(Workspace, "read", reading)
        assert read_aligned(workspace, 0, TWO | {"images": ()}) == before
    assert asked == [["id", "prompt"], ["simple_prompt"]]

    monkeypatch.setattr(PartWriter, "_digest_of_ids", lambda _: "")  # as of an earlier version
    write_group(workspace, "samples", 0, samples(3))
    monkeypatch.setattr(Workspace, "read", reading)
    asked.clear()
    assert read_aligned(workspace, 0, TWO | {"images": ()}) == before
    assert asked == [["id", "prompt"], ["id", "simple_prompt"], ["id"]]


def test_ids_are_not_read_for_whoever_wants_none_unless_the_samples_have_to_be_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_workspace(tmp_path, [samples(2)])
    there, asked, read = parts_there(workspace, TWO), [], Workspace.read

    def reading(self: Workspace, group: str, part: int, columns: list[str]) -> pa.Table:
        asked.append(list(columns))
        return read(self, group, part, columns)

    monkeypatch.setattr(Workspace, "read", reading)
    found = read_aligned(workspace, 0, TWO, there=there, with_ids=False)
    assert [table.column_names for table in found.values()] == [["prompt"], ["simple_prompt"]]
    assert asked == [["prompt"], ["simple_prompt"]]

    write_group(workspace, "samples", 0, samples(3))
    found = read_aligned(workspace, 0, TWO, there=there, with_ids=False)
    assert found["clip"]["simple_prompt"].to_pylist() == ["the red cup 0", "the red cup 1", None]
    assert found["samples"].column_names == ["prompt"]
    write_group(workspace, "samples", 0, samples(3)[1:])
    with pytest.raises(DamagedPartError, match=r"clip/part-00000.*its samples are not those"):
        read_aligned(workspace, 0, TWO, there=there, with_ids=False)


def test_batches_of_other_samples_are_refused_also_where_one_group_ends_early(
    tmp_path: Path,
) -> None:
    workspace = make_workspace(tmp_path, [samples(4)])
    whole = [side_by_side(tables) for tables in read_batches_aligned(workspace, 0, TWO, 2)]
    assert [table.num_rows for table in whole] == [2, 2]
    write_group(workspace, "samples", 0, samples(6))
    batches = read_batches_aligned(workspace, 0, TWO, 2)
    assert len([next(batches), next(batches)]) == 2
    with pytest.raises(DamagedPartError, match="samples are not those"):
        next(batches)


def test_a_name_that_two_groups_have_bears_the_second_ones_group(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(1)])
    table = side_by_side(
        read_aligned(workspace, 0, {"images": ("status",), "prompts": ("status",)})
    )
    assert table.column_names == ["id", "status", "prompts.status"]


def _frame(workspace: Workspace) -> Any:
    return frame.frame(workspace.location, ["clip.cos_simple", "verdicts.keep"])


def _inspect(workspace: Workspace) -> Any:
    (match,), _ = inspect.find(workspace, sample(1)["id"], 1)
    return inspect.sample(workspace, match)


def _publish(workspace: Workspace) -> Any:
    return read_part(workspace, 0, ["samples", "images", "prompts", "captions", "verdicts", "clip"])


def _report(workspace: Workspace) -> Iterator[Any]:
    return list(tables(workspace, groups_there(workspace)))


READERS: list[Callable[[Workspace], Any]] = [
    _frame,
    _inspect,
    _publish,
    _report,
    load,
    lambda workspace: read_stage_part(workspace, FILTER, 0),
    lambda workspace: read_rows(workspace, 0),
    lambda workspace: sentences_of(workspace.location, [sample(0)["id"]]),
    lambda workspace: read_row(workspace, 0, 1, TWO),
]
NAMES = ["frame", "inspect", "publish", "report", "view", "stage", "embed-llm", "captions", "row"]


@pytest.mark.parametrize("read", READERS, ids=NAMES)
def test_parts_of_other_samples_are_refused_by_every_reader_in_the_same_words(
    tmp_path: Path, read: Callable[[Workspace], Any]
) -> None:
    workspace = make_workspace(tmp_path, [samples(3)])
    read(workspace)
    write_group(workspace, "clip", 0, samples(3, 3))
    with pytest.raises(
        DamagedPartError, match=r"its samples are not those of \w+/part-00000\.parquet"
    ):
        read(workspace)
