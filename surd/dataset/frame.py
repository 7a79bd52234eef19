"""A workspace as a table of pandas, to look into in a notebook.

>>> samples = frame("my-data")
>>> samples.loc[~samples["verdicts.keep"], ["prompts.complex_prompt", "clip.cos_simple"]]
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from surd.errors import SurdError
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
    found = pd.DataFrame(index=_group(workspace, "samples", []).index)
    for group, names in _by_group(wanted).items():
        found = found.join(_group(workspace, group, names).add_prefix(f"{group}."))
    ordered: pd.DataFrame = found[wanted]
    return ordered


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
            raise SurdError(f"no column {column!r}; there are {', '.join(_small())}, and others")
        found.setdefault(group, []).append(name)
    return found


def _group(workspace: Workspace, group: str, names: list[str]) -> pd.DataFrame:
    import pandas as pd

    schema = pa.schema([GROUPS[group].field(name) for name in ("id", *names)])
    parts = [workspace.read(group, part, schema.names) for part in workspace.parts(group)]
    table = pa.concat_tables([schema.empty_table(), *parts])
    found: pd.DataFrame = table.to_pandas(types_mapper=pd.ArrowDtype).set_index("id")
    return found
