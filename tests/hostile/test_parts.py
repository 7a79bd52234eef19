"""Parts of a workspace that somebody else wrote: every reader tells them in one line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from support_publish import make_workspace, rewrite, samples

from surd.store.workspace import DamagedPartError, Workspace, part_name

Change = Callable[[pa.Table], pa.Table]


def replaced(name: str, values: Any) -> Change:
    return lambda table: table.set_column(table.column_names.index(name), name, pa.array(values))


def no_utf8(column: pa.ChunkedArray) -> pa.Array:
    """A text of the column, with a byte that is none."""
    data = [value and value.encode() + b"\xff" for value in column.to_pylist()]
    return pa.array(data, pa.binary()).view(pa.string())


def broken_text(name: str) -> Change:
    return lambda table: table.set_column(
        table.column_names.index(name), name, no_utf8(table[name])
    )


def broken_candidates(table: pa.Table) -> pa.Table:
    place, column = table.column_names.index("candidates"), table["candidates"].combine_chunks()
    inner = column.values
    fields = [inner.field(i) for i in range(inner.type.num_fields)]
    fields[inner.type.get_field_index("text")] = no_utf8(inner.field("text"))
    names = [inner.type.field(i) for i in range(inner.type.num_fields)]
    struct = pa.StructArray.from_arrays(fields, fields=names)
    lists = pa.ListArray.from_arrays(column.offsets, struct, type=column.type)
    return table.set_column(place, "candidates", lists)


READERS: dict[str, Callable[[Workspace, str, list[str]], object]] = {
    "read": lambda w, group, names: w.read(group, 0, names),
    "read_batches": lambda w, group, names: list(w.read_batches(group, 0, names, 2)),
    "read_rows": lambda w, group, names: list(w.read_rows(group, 0, names, np.array([2]), 2)),
    "read_around": lambda w, group, names: w.read_around(group, 0, 1, names),
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize(
    ("group", "name", "change", "told"),
    [
        ("samples", "url", broken_text("url"), "url: text that is not UTF-8"),
        ("captions", "candidates", broken_candidates, "candidates: text that is not UTF-8"),
        ("samples", "prompt", replaced("prompt", [1, 2, 3]), "prompt is int64, not string"),
        ("images", "bytes", replaced("bytes", ["a"] * 3), "bytes is string, not large_binary"),
        ("clip", "cos_simple", replaced("cos_simple", [[0.1]] * 3), "cos_simple is list"),
        ("verdicts", "keep", lambda t: t.drop_columns(["keep"]), "it has no column keep"),
        ("verdicts", "keep", replaced("keep", [True, None, False]), "a row without keep"),
        *(
            ("samples", "id", replaced("id", ["0" * 32, "1" * 32, id_]), "an id that is none")
            for id_ in (
                "é" * 16,
                "a" * 31,
                "../" * 10 + "aa",
                "A" * 32,
                "g" * 32,
                "/" * 32,
                ":" * 32,
            )
        ),
    ],
)
def test_columns_that_surd_did_not_write_are_damage(
    tmp_path: Path, group: str, name: str, change: Change, told: str, reader: str
) -> None:
    workspace = make_workspace(tmp_path, [samples(3)])
    rewrite(workspace, group, change)
    with pytest.raises(DamagedPartError, match=told):
        READERS[reader](workspace, group, [name])


def test_columns_that_an_earlier_version_did_not_write_are_null(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(3)])
    rewrite(workspace, "samples", lambda table: table.drop_columns(["captions"]))
    assert workspace.read("samples", 0, ["id", "captions"])["captions"].null_count == 3


@pytest.mark.parametrize(
    ("command", "group", "name"),
    [
        ("inspect", "samples", "url"),
        ("report", "prompts", "complex_prompt"),
        ("report", "clip", "simple_prompt"),
    ],
)
def test_commands_tell_text_that_is_no_utf8_in_one_line(
    surd: Callable[..., Any], tmp_path: Path, command: str, group: str, name: str
) -> None:
    workspace = make_workspace(tmp_path, [samples(3)])
    rewrite(workspace, group, broken_text(name))
    ran = surd(command, tmp_path)
    (line,) = ran.err.splitlines()
    assert ran.code == 2
    assert f"{part_name(group, 0)}: damaged ({name}: text that is not UTF-8)" in line
