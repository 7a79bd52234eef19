"""collect: fill samples/ from the sources. The one stage that makes rows instead of keeping them.

Every part carries the state of its source at its end, so whatever happens the next run goes on
from the last part: at the cursor of the page that was being read. Where a source gave nothing new
since then, its state lies in a small file beside the parts. Records already there are known by
their ids, so pages that shift and sources that overlap add nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Protocol

import numpy as np
import pyarrow as pa

from surd.errors import SourceError, SurdError, WorkspaceError, command
from surd.params import lasting
from surd.progress import Tick
from surd.sources.kinds import SOURCES, is_local
from surd.sources.record import Record, Seen, SourceParams, sample_id
from surd.stages.base import part_fingerprint
from surd.stages.tally import tally, to_json
from surd.store.prefetch import FOOTERS, TABLES, ahead
from surd.store.schema import SAMPLES
from surd.store.workspace import DamagedPartError, PartInfo, Workspace, part_name
from surd.untrusted import parse_json

log = logging.getLogger("surd")

GROUP = "samples"
VERSION = 1
FOUND = "found"
"""Key in a part's footer: the tally of its rows."""
_ROW_GROUP_ROWS = 1000
_NEW_IDS = 100_000
"""Of samples that are held apart from those sorted, at least."""
_NOTE = re.compile(r"source-[0-9a-f]+\.json")
_SAVE_EVERY = 1000
"""Records looked at without a new one among them, after which the state is saved, at most so many
and a page."""
_SEEN = ("seen_before", "seen")
NOT_A_STATE = (TypeError, KeyError, ValueError, AttributeError)
"""What reading the state of a source raises where there is none."""
_PLAIN = frozenset({str, int, bool, type(None)})
_SURROGATE = re.compile("[\ud800-\udfff]")
_FIELDS = (
    "source_id",
    "url",
    "path",
    "prompt",
    "negative_prompt",
    "simple_prompt",
    "author",
    "licence",
    "nsfw_level",
    "model",
    "page_url",
    "created_at",
)


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
        return cls(**{name: value for name, value in content.items() if name != FOUND} | seen)

    def complete(self, limit: int | None) -> bool:
        """Whether there is nothing left to ask in this walk."""
        return self.exhausted or (limit is not None and self.looked_at >= limit)


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


def source_key(params: SourceParams) -> str:
    """Fingerprint of the question put to a source. ``limit`` and runtime fields are not in it."""
    kept = lasting(params)
    del kept["limit"]
    text = json.dumps([VERSION, kept], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


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
    states = _states(workspace)
    seen = _SeenIds(workspace)
    results = []
    for params in sources:
        key = source_key(params)
        position = states.get(key) or _Position(SourceState(key, _kind(params)))
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
    positions, _ = _positions(workspace, part_states(workspace))
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
        told = " ".join(str(error).split())[:200]
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


@dataclass(frozen=True)
class _Position:
    """Where a source stands."""

    state: SourceState
    part: int | None = None
    """The last part it filled."""
    rows: int = 0
    """Of that part."""
    noted: bool = False
    """Whether the state is in the file beside the parts, not in the part's footer."""


class _Filler:
    """Fills the source's last part, then new ones. A part is written when the next row comes."""

    def __init__(self, workspace: Workspace, position: _Position, part_size: int) -> None:
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
            self._workspace.storage.delete(_note_name(self.state.source))
        self._written = len(self._rows)
        self._saved = self.state
        self._last = _Position(self.state, self._part, self._written)

    def _note(self, state: SourceState) -> None:
        """Keep a state beside the part, but one that is in the part."""
        part, name = self._last.part, _note_name(state.source)
        info = None if part is None else self._workspace.part_info(GROUP, part)
        self._last = replace(self._last, state=state, noted=True)
        if info is not None and SourceState.from_json(info.extra) == state:
            self._workspace.storage.delete(name)
            return
        note = {"part": part, "rows": self._last.rows, "state": asdict(state)}
        content = json.dumps(note, indent=2).encode() + b"\n"
        self._workspace.storage.write_bytes(name, content)


def write_part(
    workspace: Workspace, part: int, rows: Sequence[dict[str, Any]], state: dict[str, Any]
) -> None:
    """Write a part of samples, with the state of its source."""
    table = pa.Table.from_pylist(list(rows), schema=SAMPLES)
    with workspace.writing_part(GROUP, part, SAMPLES, _ROW_GROUP_ROWS) as writer:
        writer.write(table)
        writer.describe(
            fingerprint=part_fingerprint(f"collect {VERSION}", {}),
            settings=f"collect {VERSION}",
            inputs={},
            extra=state | {FOUND: to_json(tally(rows))},
        )


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


def part_states(workspace: Workspace) -> Iterator[tuple[int, int, SourceState]]:
    """Each part, its rows, and the state of its source at its end."""

    def info_of(part: int) -> PartInfo | None:
        try:
            return workspace.part_info(GROUP, part)
        except DamagedPartError as error:
            raise WorkspaceError(
                f"{workspace.location}/{part_name(GROUP, part)}: damaged; delete this file "
                f"and run {command('collect', workspace.location)}, which adds its samples again"
            ) from error

    parts = workspace.parts(GROUP)
    for part, info in zip(parts, ahead(workspace.storage, parts, info_of, FOOTERS), strict=True):
        if info is not None:
            try:
                state = SourceState.from_json(info.extra)
            except NOT_A_STATE as error:
                raise WorkspaceError(
                    f"{workspace.location}/samples: part {part} has no source state "
                    f"({error}); another version of surd wrote it"
                ) from error
            yield part, info.rows, state


def _states(workspace: Workspace) -> dict[str, _Position]:
    """Source key -> its last part, and its state since; notes that do not fit are deleted."""
    positions, outdated = _positions(workspace, part_states(workspace))
    for name in outdated:
        workspace.storage.delete(f"{GROUP}/{name}")
    return positions


def last_states(
    workspace: Workspace, parts: Iterable[tuple[int, int, SourceState]]
) -> list[SourceState]:
    """How far each source has been read, of the states in the ``parts``' footers and later ones;
    changes nothing."""
    return [position.state for position in _positions(workspace, parts)[0].values()]


def _positions(
    workspace: Workspace, parts: Iterable[tuple[int, int, SourceState]]
) -> tuple[dict[str, _Position], list[str]]:
    """Source key -> where it stands, and the names of notes that do not fit the parts."""
    positions = {state.source: _Position(state, part, rows) for part, rows, state in parts}
    outdated = []
    for name in workspace.storage.names(GROUP):
        if not _NOTE.fullmatch(name):
            continue
        try:
            note = parse_json(workspace.storage.read_bytes(f"{GROUP}/{name}"))
            state = SourceState.from_json(note["state"])
            found = _Position(state, note["part"], note["rows"], noted=True)
        except NOT_A_STATE:  # not as it was written: the footers know enough
            outdated.append(name)
            continue
        last = positions.get(state.source)
        if (found.part, found.rows) == ((last.part, last.rows) if last else (None, 0)):
            positions[state.source] = found
        else:
            outdated.append(name)
    return positions, outdated


def _note_name(source: str) -> str:
    return f"{GROUP}/source-{source}.json"


def row_of(id_: str, kind: str, record: Record) -> dict[str, Any]:
    """The samples row of a record, with text that every format can hold."""
    row: dict[str, Any] = {name: _clean(getattr(record, name)) for name in _FIELDS}
    settings = _jsonable(record.settings)
    text = json.dumps(settings, ensure_ascii=False) if settings else None
    captions = [_clean(caption) for caption in record.captions] or None
    return row | {"id": id_, "source": kind, "captions": captions, "settings": _clean(text)}


def _clean(text: str | None) -> str | None:
    """Lone surrogates cannot be stored as UTF-8; they become U+FFFD."""
    return text if text is None or text.isascii() else _SURROGATE.sub("\ufffd", text)


def _jsonable(value: Any, depth: int = 0) -> Any:
    """Plain JSON: finite numbers, string keys, bounded depth."""
    if type(value) in _PLAIN:
        return value
    if depth > 20:
        return str(value)[:1000]
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v, depth + 1) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)
