"""collect: fill samples/ from the sources. The one stage that makes rows instead of keeping them.

Whatever happens, the next run goes on from the last part, at the cursor of the page that was being
read (:mod:`surd.stages.source_state`). Records already there are known by their ids, so pages that
shift and sources that overlap add nothing twice.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np

from surd.errors import SourceError, SurdError, one_line
from surd.progress import Tick
from surd.sources.kinds import SOURCES, is_local
from surd.sources.record import Record, Seen, SourceParams, sample_id
from surd.stages.sample_rows import row_of, write_part
from surd.stages.source_state import (
    GROUP,
    Position,
    SourceState,
    known_states,
    note_name,
    part_states,
    positions_of,
    source_key,
)
from surd.store.prefetch import TABLES, ahead
from surd.store.workspace import Workspace

log = logging.getLogger("surd")

_NEW_IDS = 100_000
"""Of samples that are held apart from those sorted, at least."""
_SAVE_EVERY = 1000
"""Records looked at without a new one among them, after which the state is saved, at most so many
and a page."""


@dataclass(frozen=True)
class SourceResult:
    """What one source gave in this run."""

    kind: str
    new: int
    known: int
    problem: str | None = None
    seen: Seen = field(default_factory=Seen)
    fresh: bool = False
    """Nothing was asked, because an earlier run had read it to its end."""


class Versions(Protocol):
    """What the samples there are say, for whoever looks at known records again."""

    def looks_at(self, params: SourceParams) -> bool:
        """Whether the known records of a source are to be looked at."""

    def sight(self, row: dict[str, Any]) -> None:
        """A record was met, be it new or known."""

    def misses(self, source: str) -> bool:
        """Whether samples of a source, named by its key, have not been met."""


def collect(
    workspace: Workspace,
    sources: Sequence[SourceParams],
    part_size: int,
    *,
    look_again: bool = False,
    versions: Versions | None = None,
    tick: Tick = lambda counts: None,
) -> list[SourceResult]:
    """Read every source to its end or limit, from where the last run stopped.

    With ``look_again``, sources that were read to their end are walked through once more, and
    only what is new is added. ``versions`` is told of every record of the sources it looks at,
    from the first on, and beyond the limit while it misses some. A source that fails is reported
    in its result; what it gave is kept, the next source goes on.
    """
    workspace.storage.remove_leftovers(GROUP)
    states = known_states(workspace)
    seen = _SeenIds(workspace)
    results = []
    for params in sources:
        key = source_key(params)
        position = states.get(key) or Position(SourceState(key, _kind(params)))
        state = position.state
        meets = versions if versions is not None and versions.looks_at(params) else None
        if state.complete(params.limit) and not (look_again or meets):
            results.append(SourceResult(state.kind, 0, 0, fresh=True))
            continue
        filler = _Filler(workspace, position, part_size)
        if state.complete(params.limit) or meets:
            filler.begin_again(complete=state.complete(params.limit))
        results.append(_read(params, filler, seen, meets, tick))
    return results


def check(workspace: Workspace, sources: Sequence[SourceParams]) -> None:
    """Look at the first records of the sources that are files here and not read to their end.

    Raises SourceError for one that cannot be read.
    """
    positions, _ = positions_of(workspace, part_states(workspace))
    for params in sources:
        position = positions.get(source_key(params))
        is_done = position is not None and position.state.complete(params.limit)
        if not is_done and is_local(params):
            _, pages = SOURCES[_kind(params)]
            next(pages(params, None), None)


def _kind(params: SourceParams) -> str:
    return str(params.model_dump()["kind"])


def _read(
    params: SourceParams,
    filler: _Filler,
    seen: _SeenIds,
    versions: Versions | None,
    tick: Tick,
) -> SourceResult:
    _, pages = SOURCES[filler.state.kind]
    new = known = 0
    problem = None
    try:
        for record, wanted in _records(pages, params, filler, versions):
            id_ = sample_id(filler.state.kind, record.key)
            if versions is not None:
                versions.sight(row_of(id_, filler.state.kind, record))
            if id_ in seen:
                known += 1
            elif wanted:
                seen.add(id_)
                filler.add(row_of(id_, filler.state.kind, record))
                new += 1
                tick({"new": 1})
    except SourceError as error:
        problem = str(error)
    except (SurdError, OSError) as error:  # of the workspace: no source could go on
        raise error
    except Exception as error:  # a fault of surd's in a hostile source must not end the others
        log.debug("%s", filler.state.kind, exc_info=True)
        told = one_line(error)
        problem = f"{filler.state.kind}: {type(error).__name__}: {told}".rstrip(": ")
    except KeyboardInterrupt:
        filler.save()
        raise
    filler.save()
    return SourceResult(filler.state.kind, new, known, problem, filler.state.seen)


def _records(
    pages: Callable[[Any, str | None], Iterator[Any]],
    params: SourceParams,
    filler: _Filler,
    versions: Versions | None,
) -> Iterator[tuple[Record, bool]]:
    """The source's records, and whether each is within its limit; ends there unless ``versions``
    misses some. Keeps the filler's state true at every record within."""
    looked_at = filler.state.looked_at_before
    seen = filler.state.seen_before.copy()
    within = True
    for page in pages(params, filler.state.cursor):
        if within:
            filler.state = replace(
                filler.state,
                cursor=page.cursor,
                looked_at_before=looked_at,
                looked_at=looked_at,
                seen_before=seen.copy(),
                seen=seen.copy(),
            )
            seen.add(page.seen)
        new = filler.new
        for record in page.records:
            yield record, within
            if within:
                looked_at += 1
                within = looked_at != params.limit
                is_last = not within or record is page.records[-1]
                met = seen.copy() if is_last else filler.state.seen
                filler.state = replace(filler.state, looked_at=looked_at, seen=met)
            if not within and not (versions and versions.misses(filler.state.source)):
                return
        if within and filler.new == new and looked_at - filler.saved_at >= _SAVE_EVERY:
            filler.save()
    if within:
        filler.state = replace(filler.state, exhausted=True, seen=seen)


class _Filler:
    """Fills the source's last part, then new ones. A part is written when the next row comes."""

    def __init__(self, workspace: Workspace, position: Position, part_size: int) -> None:
        self.state = position.state
        self.new = 0
        """Rows added."""
        self._workspace = workspace
        self._part_size = part_size
        self._part = position.part
        self._last = position
        self._saved: SourceState | None = position.state
        self._complete: SourceState | None = None
        """At the end of an earlier walk."""
        self._rows: list[dict[str, Any]] = []
        if self._part is not None and position.rows < part_size:
            self._rows = workspace.read(GROUP, self._part).to_pylist()
        else:
            self._part = None
        self._written = len(self._rows)

    @property
    def saved_at(self) -> int:
        """How many records of this walk had been looked at when its state was last saved."""
        return self._saved.looked_at if self._saved and self._saved.walk == self.state.walk else 0

    def begin_again(self, *, complete: bool) -> None:
        """Walk through the source from its first record. Where an earlier walk is ``complete``,
        there is nothing to save while this one brings nothing new, but what it has met at its
        end."""
        self._complete = self.state if complete else None
        self.state = SourceState(self.state.source, self.state.kind, walk=self.state.walk + 1)
        if complete:
            self._saved = None

    def add(self, row: dict[str, Any]) -> None:
        if len(self._rows) >= self._part_size:
            self.save()
            self._rows, self._written, self._part = [], 0, None
        self._rows.append(row)
        self.new += 1

    def save(self) -> None:
        """Write the rows that are not written yet, or else how far the source has been read.

        Of one that has had no record yet nothing is noted: it is asked in every build.
        """
        if len(self._rows) > self._written:
            self._write_part()
        elif self._complete is not None and self._saved is None:
            if self.state.exhausted and self.state.seen != self._complete.seen:
                self._note(replace(self._complete, seen=self.state.seen))
        elif self.state.looked_at and self._saved != self.state:
            self._note(self.state)
            self._saved = self.state

    def _write_part(self) -> None:
        if self._part is None:
            existing = self._workspace.parts(GROUP)
            self._part = existing[-1] + 1 if existing else 0
        write_part(self._workspace, self._part, self._rows, asdict(self.state))
        if self._last.noted:
            self._workspace.storage.delete(note_name(self.state.source))
        self._written = len(self._rows)
        self._saved = self.state
        self._last = Position(self.state, self._part, self._written)

    def _note(self, state: SourceState) -> None:
        """Keep a state beside the part, but one that is in the part."""
        part, name = self._last.part, note_name(state.source)
        info = None if part is None else self._workspace.part_info(GROUP, part)
        self._last = replace(self._last, state=state, noted=True)
        if info is not None and SourceState.from_json(info.extra) == state:
            self._workspace.storage.delete(name)
            return
        note = {"part": part, "rows": self._last.rows, "state": asdict(state)}
        content = json.dumps(note, indent=2).encode() + b"\n"
        self._workspace.storage.write_bytes(name, content)


class _SeenIds:
    """The ids in samples/, as 64-bit numbers: 8 bytes a sample, sorted, and a set of what is new.

    A number takes some 100 bytes in the set, so that goes over to the others before it weighs more
    than a few of them, and not so often that sorting would count.
    """

    def __init__(self, workspace: Workspace) -> None:
        def numbers_of(part: int) -> np.ndarray[Any, np.dtype[np.uint64]]:
            return _as_numbers(workspace.read(GROUP, part, ["id"])["id"].to_pylist())

        columns = list(ahead(workspace.storage, workspace.parts(GROUP), numbers_of, TABLES))
        self._sorted = np.sort(np.concatenate(columns)) if columns else np.zeros(0, np.uint64)
        self._new: set[int] = set()

    def __contains__(self, id_: str) -> bool:
        number = int(id_[:16], 16)
        if number in self._new:
            return True
        at = int(np.searchsorted(self._sorted, np.uint64(number)))
        return at < len(self._sorted) and int(self._sorted[at]) == number

    def add(self, id_: str) -> None:
        self._new.add(int(id_[:16], 16))
        if len(self._new) >= max(_NEW_IDS, len(self._sorted) // 40):
            fresh = np.fromiter(self._new, np.uint64, len(self._new))
            self._sorted = np.sort(np.concatenate([self._sorted, fresh]))
            self._new = set()


def _as_numbers(ids: Sequence[str]) -> np.ndarray[Any, np.dtype[np.uint64]]:
    return np.fromiter((int(id_[:16], 16) for id_ in ids), np.uint64, len(ids))
