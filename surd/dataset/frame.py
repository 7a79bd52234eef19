"""A workspace as a table of pandas, to look into in a notebook.

>>> samples = frame("my-data")
>>> samples.loc[~samples["verdicts.keep"], ["prompts.complex_prompt", "clip.cos_simple"]]
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from surd.errors import SurdError
from surd.store.aligned import Columns, parts_there, read_aligned
from surd.store.schema import EMBEDDING, GROUPS
from surd.store.workspace import Workspace

if TYPE_CHECKING:  # 0.3 s and 50 MB
    import pandas as pd


def frame(folder: str | Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """A row for each sample, indexed by its id, in the order in which they were collected.

    `columns` are named by their group, as ``clip.cos_simple``; without any it is all that there
    are but image bytes and embeddings. They have Arrow's types. What a stage has not said of a
    sample is missing. Raises SurdError for a column that there is not, WorkspaceError where there
    is no workspace or a part is damaged.
    """
    import pandas as pd

    workspace = Workspace(folder)
    workspace.read_manifest()
    wanted = list(_small() if columns is None else columns)
    by_group = {"samples": [], **_by_group(wanted)}
    there = parts_there(workspace, by_group)
    parts = [
        _named(read_aligned(workspace, part, by_group, there=there))
        for part in sorted(there["samples"])
    ]
    table = pa.concat_tables([_empty(by_group), *parts])
    found: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype).set_index("id")[wanted]
    return found


def _small() -> Iterable[str]:
    """The columns that a row has without its picture and its vectors."""
    for group, schema in GROUPS.items():
        for field in schema:
            if field.name != "id" and field.type not in (pa.large_binary(), EMBEDDING):
                yield f"{group}.{field.name}"


def _by_group(columns: Iterable[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for column in columns:
        group, _, name = column.partition(".")
        if name not in GROUPS.get(group, pa.schema([])).names or name == "id":
            raise SurdError(f"no column {column!r}; columns are {', '.join(_small())}, and others")
        found.setdefault(group, []).append(name)
    return found


def _empty(by_group: Columns) -> pa.Table:
    """The columns, without any row."""
    schemas = {
        group: pa.schema([GROUPS[group].field(name) for name in ("id", *names)])
        for group, names in by_group.items()
    }
    return _named({group: schema.empty_table() for group, schema in schemas.items()})


def _named(tables: Mapping[str, pa.Table]) -> pa.Table:
    """Aligned tables as one, whose columns bear their group's name."""
    columns = {
        f"{group}.{name}": table[name]
        for group, table in tables.items()
        for name in table.column_names[1:]
    }
    return pa.table({"id": tables["samples"]["id"]} | columns)
