"""Looking again at what was collected: prompts that were edited, and images that are gone.

Samples then say what collecting anew would say. A changed row is a new version in its part, which
is written as a whole; an image that its source no longer has is marked, and comes back when the
source has it again. Killed anywhere, the next run finds what is left to do.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections import defaultdict
from collections.abc import Sequence, Set
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from surd.errors import SurdError, command
from surd.progress import Tick
from surd.sources.huggingface import HuggingFaceSource
from surd.sources.record import SourceParams
from surd.stages.collect import SourceResult, collect
from surd.stages.sample_rows import write_part
from surd.stages.source_state import GROUP, SourceState, part_states, source_key
from surd.store import gone
from surd.store.prefetch import TABLES, ahead
from surd.store.schema import SAMPLES
from surd.store.workspace import Workspace

_FILES = ("folder", "table", "webdataset", "huggingface", "surd_release", "diffusiondb")
"""Kinds of sources that show all they have whenever they are read."""

_ROW = np.dtype([("number", np.uint64), ("digest", np.uint64), ("part", np.int32)])
"""A sample by the first half of its id, a digest of its row, and where that is."""

log = logging.getLogger("surd")


@dataclass(frozen=True)
class Refreshed:
    """What was found beside new samples."""

    changed: int
    """Samples with another prompt, caption or other field than before."""
    gone: int
    """Samples that were there before this run."""
    back: int
    """Samples that were gone before this run."""


def refresh(
    workspace: Workspace,
    sources: Sequence[SourceParams],
    part_size: int,
    *,
    tick: Tick = lambda counts: None,
) -> tuple[list[SourceResult], Refreshed]:
    """Walk through all sources once more: add what is new, write what has changed, mark what is
    gone.

    Where several sources have a sample, or one has it several times, the first says what it is. Of
    a source that fails nothing counts as gone, nor of one that has left the recipe. Of sources
    that cannot be looked at again only what is new is asked for.

    Raises SurdError when no source can be looked at again.
    """
    refused = {
        str(params.model_dump()["kind"]): why for params in sources if (why := _why_not(params))
    }
    if all(map(_why_not, sources)):
        kind, why = next(iter(refused.items()))
        raise SurdError(
            f"--refresh: {kind}: {why}; to collect only what is new, run: "
            + command("collect", workspace.location)
        )
    for kind, why in refused.items():
        log.warning("%s: %s; collecting only what is new", kind, why)
    samples = _Samples(workspace)
    results = collect(workspace, sources, part_size, look_again=True, versions=samples, tick=tick)
    whole = set()
    for params, result in zip(sources, results, strict=True):
        if result.problem is not None or not samples.looks_at(params):
            continue
        if result.new + result.known:
            whole.add(source_key(params))
        else:
            log.warning(
                "%s: has no records at all, as if a disk were not mounted; its samples are not "
                "marked as gone",
                params.model_dump()["kind"],
            )
    changed = samples.write_changed()
    before = gone.read(workspace)
    after = samples.absent(whole) | {id_ for id_ in before if not samples.is_there(id_)}
    if after != before:
        gone.write(workspace, after)
    return results, Refreshed(changed, len(after - before), len(before - after))


def _why_not(params: SourceParams) -> str | None:
    """Why a source cannot be looked at again."""
    if params.model_dump()["kind"] not in _FILES:
        return "an API chooses what to list, so an image missing from the list need not be gone"
    if isinstance(params, HuggingFaceSource) and params.key_column is None:
        return "rows are known by their position only; set key_column to a column of ids"
    return None


class _Samples:
    """The rows there are, each with a digest, whether it was met, and whether its image was there.

    22 bytes a sample, and the rows that have changed.
    """

    def __init__(self, workspace: Workspace) -> None:
        states = list(part_states(workspace))
        parts = [part for part, _, _ in states]
        read = ahead(workspace.storage, parts, lambda part: _read(workspace, part), TABLES)
        rows = np.concatenate([np.zeros(0, _ROW), *read])
        rows = rows[np.argsort(rows["number"], kind="stable")]
        self._workspace = workspace
        self._states: dict[int, SourceState] = {part: state for part, _, state in states}
        self._numbers = rows["number"].copy()  # else each search would make a copy
        self._digests = rows["digest"].copy()
        self._parts = rows["part"].copy()
        self._met = np.zeros(len(rows), bool)
        self._there = np.zeros(len(rows), bool)
        self._missed: dict[str, int] = defaultdict(int)
        for _, count, state in states:
            self._missed[state.source] += count
        self._changed: dict[int, dict[str, dict[str, Any]]] = defaultdict(dict)

    def looks_at(self, params: SourceParams) -> bool:
        """Whether a source can be looked at again."""
        return _why_not(params) is None

    def sight(self, row: dict[str, Any]) -> None:
        """Compare a record with the row there is; of several, the first."""
        at = self._find(row["id"])
        if at is None:
            return
        if not self._met[at]:
            self._met[at] = True
            part = int(self._parts[at])
            self._missed[self._states[part].source] -= 1
            if _digest(row) != self._digests[at]:
                self._changed[part][row["id"]] = row
        self._there[at] |= _has_image(row)

    def misses(self, source: str) -> bool:
        """Whether samples in the parts of a source have not been met."""
        return self._missed[source] > 0

    def is_there(self, id_: str) -> bool:
        """Whether a sample was met, with its image."""
        at = self._find(id_)
        return at is not None and bool(self._there[at])

    def absent(self, sources: Set[str]) -> set[str]:
        """Ids in the parts of these sources that were not met, or have no image there."""
        found: set[str] = set()
        for part in np.unique(self._parts[~self._there]).tolist():
            if self._states[part].source in sources:
                ids = self._workspace.read(GROUP, part, ["id"])["id"].to_pylist()
                found |= {
                    id_ for id_ in ids if self._find(id_) is not None and not self.is_there(id_)
                }
        return found

    def write_changed(self) -> int:
        """Write the parts that have other rows now; how many rows these are."""
        footers = {part: state for part, _, state in part_states(self._workspace)}
        for part, changed in sorted(self._changed.items()):
            rows = self._workspace.read(GROUP, part).to_pylist()
            rows = [changed.get(row["id"], row) for row in rows]
            write_part(self._workspace, part, rows, asdict(footers[part]))
        return sum(map(len, self._changed.values()))

    def _find(self, id_: str) -> int | None:
        number = np.uint64(int(id_[:16], 16))
        at = int(np.searchsorted(self._numbers, number))
        return at if at < len(self._numbers) and self._numbers[at] == number else None


def _read(workspace: Workspace, part: int) -> npt.NDArray[np.void]:
    rows = workspace.read(GROUP, part).to_pylist()
    found = ((int(row["id"][:16], 16), _digest(row), part) for row in rows)
    return np.fromiter(found, _ROW, len(rows))


def _digest(row: dict[str, Any]) -> int:
    text = json.dumps([row.get(name) for name in SAMPLES.names])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _has_image(row: dict[str, Any]) -> bool:
    """Whether there is something where the image should be; urls are believed."""
    path = row["path"]
    if path is None or row["url"] is not None or "://" in path:
        return True
    return os.path.exists(path.partition("::")[0])  # noqa: PTH110  (Path.exists raises for names too long)
