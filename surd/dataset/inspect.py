"""Finding samples, and everything the workspace knows of one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc

from surd.store.aligned import read_row
from surd.store.schema import GROUPS
from surd.store.workspace import Workspace

_SEARCHED = ("url", "path", "source_id", "prompt")


@dataclass(frozen=True)
class Match:
    """A sample that a query found, and where its row is."""

    id: str
    source: str
    prompt: str | None
    part: int
    row: int


def find(workspace: Workspace, query: str | None, limit: int) -> list[Match]:
    """Samples whose id begins with ``query``, or whose url, path or prompt contains it.

    Case does not matter. An exact id, url, path or source id is found alone. None: the first
    samples there are.
    """
    matches: list[Match] = []
    for match, exact in _candidates(workspace, query):
        if exact:
            return [match]
        if len(matches) < limit:
            matches.append(match)
        elif query is None:
            break
    return matches


def _candidates(workspace: Workspace, query: str | None) -> Iterator[tuple[Match, bool]]:
    for part in workspace.parts("samples"):
        table = workspace.read("samples", part, ["id", "source", *_SEARCHED])
        mask = None
        if query is not None:
            mask = pc.starts_with(table["id"], query.lower())
            for column in _SEARCHED:
                hit = pc.match_substring(table[column], query, ignore_case=True)
                mask = pc.or_(mask, pc.fill_null(hit, False))
        for row, values in enumerate(table.to_pylist()):
            if mask is None or mask[row].as_py():
                exact = query in [values[name] for name in ("id", "url", "path", "source_id")]
                match = Match(values["id"], values["source"], values["prompt"], part, row)
                yield match, query is not None and exact


def sample(workspace: Workspace, match: Match) -> dict[str, dict[str, Any]]:
    """Group -> the sample's row there, without the image's bytes; groups without one left out.

    Raises DamagedPartError.
    """
    columns = {
        group: [name for name in schema.names if name != "bytes"]
        for group, schema in GROUPS.items()
    }
    rows = read_row(workspace, match.part, match.row, columns)
    return {group: row for group, row in rows.items() if row}
