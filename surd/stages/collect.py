"""collect: fill samples/ from the sources. The one stage that makes rows instead of keeping them.

Every part carries the state of its source at its end, so whatever happens the next run goes on
from the last part: at the cursor of the page that was being read. Records already there are
known by their ids, so pages that shift and sources that overlap add nothing twice.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from surd.errors import SourceError, WorkspaceError, command
from surd.params import lasting
from surd.progress import Tick
from surd.sources.kinds import SOURCES
from surd.sources.record import Record, SourceParams, sample_id
from surd.stages.base import part_fingerprint
from surd.store.prefetch import FOOTERS, TABLES, ahead
from surd.store.schema import SAMPLES
from surd.store.workspace import DamagedPartError, PartInfo, Workspace, part_name

GROUP = "samples"
VERSION = 1
_ROW_GROUP_ROWS = 1000
_NEW_IDS = 100_000
"""Of samples that are held apart from those sorted, at least."""
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
    """How far a source has been read; kept in the footer of the part it filled."""

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
    fresh: bool = False
    """Nothing was asked, because an earlier run had read it to its end."""


def source_key(params: SourceParams) -> str:
    """Fingerprint of the question put to a source. ``limit`` and runtime fields are not in it."""
    kept = lasting(params)
    del kept["limit"]
    text = json.dumps([VERSION, kept], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def collect(
    workspace: Workspace,
    sources: Sequence[SourceParams],
    part_size: int,
    *,
    look_again: bool = False,
    tick: Tick = lambda counts: None,
) -> list[SourceResult]:
    """Read every source to its end or limit, from where the last run stopped.

    With ``look_again``, sources that were read to their end are walked through once more, and
    only what is new is added. A source that fails is reported in its result; what it gave is
    kept, the next source goes on.
    """
    workspace.storage.remove_leftovers(GROUP)
    states = _states(workspace)
    seen = _SeenIds(workspace)
    results = []
    for params in sources:
        key = source_key(params)
        part, state = states.get(key, (None, SourceState(key, _kind(params))))
        if state.complete(params.limit):
            if not look_again:
                results.append(SourceResult(state.kind, 0, 0, fresh=True))
                continue
            state = SourceState(key, state.kind, walk=state.walk + 1)
        filler = _Filler(workspace, part, part_size, state)
        results.append(_read(params, filler, seen, tick))
    return results


def _kind(params: SourceParams) -> str:
    return str(params.model_dump()["kind"])


def _read(params: SourceParams, filler: _Filler, seen: _SeenIds, tick: Tick) -> SourceResult:
    _, pages = SOURCES[filler.state.kind]
    new = known = 0
    try:
        for record in _records(pages, params, filler):
            id_ = sample_id(filler.state.kind, record.key)
            if id_ in seen:
                known += 1
                continue
            seen.add(id_)
            filler.add(row_of(id_, filler.state.kind, record))
            new += 1
            tick({"new": 1})
    except SourceError as error:
        filler.flush()
        return SourceResult(filler.state.kind, new, known, problem=str(error))
    except KeyboardInterrupt:
        filler.flush()
        raise
    filler.flush()
    return SourceResult(filler.state.kind, new, known)


def _records(
    pages: Callable[[Any, str | None], Iterator[Any]], params: SourceParams, filler: _Filler
) -> Iterator[Record]:
    """The source's records up to its limit; keeps the filler's state true at every record."""
    looked_at = filler.state.looked_at_before
    for page in pages(params, filler.state.cursor):
        filler.state = replace(
            filler.state, cursor=page.cursor, looked_at_before=looked_at, looked_at=looked_at
        )
        for record in page.records:
            yield record
            looked_at += 1
            filler.state = replace(filler.state, looked_at=looked_at)
            if looked_at == params.limit:
                return
    filler.state = replace(filler.state, exhausted=True)


class _Filler:
    """Fills the source's last part, then new ones. A part is written when the next row comes."""

    def __init__(
        self, workspace: Workspace, part: int | None, part_size: int, state: SourceState
    ) -> None:
        self.state = state
        self._workspace = workspace
        self._part_size = part_size
        self._part = part
        self._rows: list[dict[str, Any]] = []
        if part is not None:
            rows = workspace.read(GROUP, part).to_pylist()
            if len(rows) < part_size:
                self._rows = rows
            else:
                self._part = None
        self._written = len(self._rows)

    def add(self, row: dict[str, Any]) -> None:
        if len(self._rows) >= self._part_size:
            self.flush()
            self._rows, self._written, self._part = [], 0, None
        self._rows.append(row)

    def flush(self) -> None:
        """Write the part as it is, if it has rows that are not written yet."""
        if len(self._rows) == self._written:
            return
        if self._part is None:
            existing = self._workspace.parts(GROUP)
            self._part = existing[-1] + 1 if existing else 0
        table = pa.Table.from_pylist(self._rows, schema=SAMPLES)
        with self._workspace.writing_part(GROUP, self._part, SAMPLES, _ROW_GROUP_ROWS) as writer:
            writer.write(table)
            writer.describe(
                fingerprint=part_fingerprint(f"collect {VERSION}", {}),
                settings=f"collect {VERSION}",
                inputs={},
                extra=asdict(self.state),
            )
        self._written = len(self._rows)


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


def _states(workspace: Workspace) -> dict[str, tuple[int, SourceState]]:
    """Source key -> its last part, and its state at the end of that part."""
    states: dict[str, tuple[int, SourceState]] = {}

    def info_of(part: int) -> PartInfo | None:
        try:
            return workspace.part_info(GROUP, part)
        except DamagedPartError as error:
            raise WorkspaceError(
                f"{workspace.location}/{part_name(GROUP, part)}: damaged; delete this file and run "
                f"{command('collect', workspace.location)}, which adds its samples again"
            ) from error

    parts = workspace.parts(GROUP)
    for part, info in zip(parts, ahead(workspace.storage, parts, info_of, FOOTERS), strict=True):
        if info is not None:
            try:
                state = SourceState(**info.extra)
            except TypeError as error:
                raise WorkspaceError(
                    f"{workspace.location}/samples: part {part} has no source state ({error}); "
                    "it was not written by this version of surd"
                ) from error
            states[state.source] = (part, state)
    return states


def row_of(id_: str, kind: str, record: Record) -> dict[str, Any]:
    """The samples row of a record, with text that every format can hold."""
    row: dict[str, Any] = {name: _clean(getattr(record, name)) for name in _FIELDS}
    settings = _jsonable(record.settings)
    text = json.dumps(settings, ensure_ascii=False) if settings else None
    return row | {"id": id_, "source": kind, "settings": _clean(text)}


def _clean(text: str | None) -> str | None:
    """Lone surrogates cannot be stored as UTF-8; they become U+FFFD."""
    return None if text is None else _SURROGATE.sub("\ufffd", text)


def _jsonable(value: Any, depth: int = 0) -> Any:
    """Plain JSON: finite numbers, string keys, bounded depth."""
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
