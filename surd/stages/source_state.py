"""How far each source of a workspace has been read.

Every part of the samples carries the state of its source at its end. Where a source gave nothing
new since then, its state lies in a small file beside the parts.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from surd.errors import WorkspaceError
from surd.params import lasting
from surd.sources.record import Seen, SourceParams
from surd.store.prefetch import FOOTERS, ahead
from surd.store.workspace import Workspace
from surd.untrusted import parse_json

GROUP = "samples"
VERSION = 1
FOUND = "found"
"""Key in a part's footer: the tally of its rows."""
NOT_A_STATE = (TypeError, KeyError, ValueError, AttributeError)
"""What reading the state of a source raises where there is none."""
_NOTE = re.compile(r"source-[0-9a-f]+\.json")
_KINDS: Mapping[str, Any] = {
    **{"source": str, "kind": str, "walk": int, "cursor": str | None},
    **{"looked_at_before": int, "looked_at": int, "exhausted": bool},
}
_SEEN = ("seen_before", "seen")


@dataclass(frozen=True)
class SourceState:
    """How far a source has been read; kept in the footer of the part it filled.

    What was read since without a new record is in ``samples/source-KEY.json``. That counts while
    the part it was written after is the source's last and has as many rows, so it cannot run
    ahead of the data either.
    """

    source: str
    """Fingerprint of what is asked of the source, its limit apart."""
    kind: str
    walk: int = 1
    """1 for the first walk through the source, 2 for the first look for news, ..."""
    cursor: str | None = None
    """Brings the page that was being read when the part was full."""
    looked_at_before: int = 0
    """Records looked at before that page."""
    looked_at: int = 0
    exhausted: bool = False
    seen_before: Seen = field(default_factory=Seen)
    """What was met before that page."""
    seen: Seen = field(default_factory=Seen)

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> SourceState:
        """From a footer or a note. Raises TypeError, KeyError or ValueError for another."""
        seen = {name: Seen.from_json(content[name]) for name in _SEEN if name in content}
        state = cls(**{name: value for name, value in content.items() if name != FOUND} | seen)
        for name, kind in _KINDS.items():
            if not isinstance(getattr(state, name), kind):
                raise TypeError(f"its {name} is {type(getattr(state, name)).__name__}")
        return state

    def complete(self, limit: int | None) -> bool:
        """Whether there is nothing left to ask in this walk."""
        return self.exhausted or (limit is not None and self.looked_at >= limit)


def source_key(params: SourceParams) -> str:
    """Fingerprint of the question put to a source. ``limit`` and runtime fields are not in it."""
    kept = lasting(params)
    del kept["limit"]
    text = json.dumps([VERSION, kept], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Position:
    """Where a source stands."""

    state: SourceState
    part: int | None = None
    """The last part it filled."""
    rows: int = 0
    """Of that part."""
    noted: bool = False
    """Whether the state is in the file beside the parts, not in the part's footer."""


def part_states(workspace: Workspace) -> Iterator[tuple[int, int, SourceState]]:
    """Each part, its rows, and the state of its source at its end. Raises DamagedPartError."""
    parts, look = workspace.parts(GROUP), workspace.part_infos(GROUP)
    infos = ahead(workspace.storage, parts, lambda part: look(GROUP, part), FOOTERS)
    for part, info in zip(parts, infos, strict=True):
        if info is not None:
            try:
                state = SourceState.from_json(info.extra)
            except NOT_A_STATE as error:
                raise WorkspaceError(
                    f"{workspace.location}/samples: part {part} has no source state "
                    f"({error}); another version of surd wrote it"
                ) from error
            yield part, info.rows, state


def known_states(workspace: Workspace) -> dict[str, Position]:
    """Source key -> its last part, and its state since; notes that do not fit are deleted."""
    positions, outdated = positions_of(workspace, part_states(workspace))
    for name in outdated:
        workspace.storage.delete(f"{GROUP}/{name}")
    return positions


def last_states(
    workspace: Workspace, parts: Iterable[tuple[int, int, SourceState]]
) -> list[SourceState]:
    """How far each source has been read, of the states in the ``parts``' footers and later ones;
    changes nothing."""
    return [position.state for position in positions_of(workspace, parts)[0].values()]


def positions_of(
    workspace: Workspace, parts: Iterable[tuple[int, int, SourceState]]
) -> tuple[dict[str, Position], list[str]]:
    """Source key -> where it stands, and the names of notes that do not fit the parts."""
    positions = {state.source: Position(state, part, rows) for part, rows, state in parts}
    outdated = []
    for name in workspace.storage.names(GROUP):
        if not _NOTE.fullmatch(name):
            continue
        try:
            note = parse_json(workspace.storage.read_bytes(f"{GROUP}/{name}"))
            state = SourceState.from_json(note["state"])
            found = Position(state, note["part"], note["rows"], noted=True)
        except NOT_A_STATE:  # not as it was written: the footers know enough
            outdated.append(name)
            continue
        last = positions.get(state.source)
        if (found.part, found.rows) == ((last.part, last.rows) if last else (None, 0)):
            positions[state.source] = found
        else:
            outdated.append(name)
    return positions, outdated


def note_name(source: str) -> str:
    """The file of a source's state beside the parts."""
    return f"{GROUP}/source-{source}.json"
