"""Who has words in their prompts: a scan of all texts, remembered while nothing changes."""

from __future__ import annotations

import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from itertools import pairwise, takewhile

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc

from surd.dataset.simple_prompts import COLUMNS, Written, read_part
from surd.dataset.words import SEARCHED, have_words
from surd.store.aligned import Parts, parts_there
from surd.store.prefetch import READERS, at_once
from surd.store.workspace import Workspace, part_name
from surd.view.index import Bools, Index

PATIENCE_S = 1.5
"""How long a page is kept waiting. What is found by then is shown, and the page asks on."""
_REMEMBERED = 64
"""Searches, a bit a sample each: whoever turns a page, sorts or narrows asks for the same words
again, and so does each page that searches on."""

_Hits = npt.NDArray[np.uint8]
"""``[rows / 8]``: a bit for each row of a part, packed."""


class WordSearch:
    """One workspace's texts. Threads share it, and wait for each other."""

    def __init__(self, workspace: Workspace, before_part: Callable[[], None]) -> None:
        """``before_part`` may raise, to end a search early."""
        self._workspace = workspace
        self._before_part = before_part
        self._lock = threading.Lock()
        self._index: Index | None = None
        self._stamps: dict[int, list[str | None]] = {}
        self._written = Written({}, frozenset())
        self._known: OrderedDict[tuple[str, str], dict[int, _Hits]] = OrderedDict()
        """Words and tag -> what was found in each part gone through so far."""

    def found(
        self,
        index: Index,
        written: Written,
        words: str,
        tag: str,
        among: Bools,
        patience_s: float | None = None,
    ) -> tuple[Bools, float]:
        """``[n]``: of the parts with some of ``among`` ``[n]``, in whose prompts, simple or
        complex, or paths all of the words are, and in whose simple prompts the tag is; case does
        not matter. And the share of the samples of these parts that was searched: with
        ``patience_s``, what was found by then, and at least a part further each time.

        Raises WorkspaceError.
        """
        with self._lock:
            self._forget_changed(index, written)
            hits = self._known.setdefault((words, tag), {})
            self._known.move_to_end((words, tag))
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
            bounds = dict(zip(index.parts, pairwise(index.starts.tolist()), strict=True))
            asked = {part: b - a for part, (a, b) in bounds.items() if among[a:b].any()}
            left = [part for part in asked if part not in hits]
            self._go_through(hits, written, (words, tag), left, patience_s)
            rows = np.zeros(len(index), np.bool_)
            for part in asked.keys() & hits:
                start, end = bounds[part]
                rows[start:end] = np.unpackbits(hits[part], count=end - start)
            searched = sum(size for part, size in asked.items() if part in hits)
            return rows, searched / sum(asked.values()) if asked else 1.0

    def _forget_changed(self, index: Index, written: Written) -> None:
        """Of every search, the parts whose texts are others now: a build changes a few at a time,
        and an edit those of its samples."""
        changed: set[int] = set()
        if self._index is not index:
            before, self._stamps = self._stamps, _stamps(self._workspace, index)
            changed |= {part for part in before if before[part] != self._stamps.get(part)}
        if self._written != written:
            texts = self._written.now.items() ^ written.now.items()
            ids = {id_ for id_, _ in texts} | (self._written.ever ^ written.ever)
            changed |= {index.place(at)[0] for at in index.positions_of(ids).values()}
        self._index, self._written = index, written
        for hits in self._known.values():
            for part in changed & hits.keys():
                del hits[part]

    def _go_through(
        self,
        found: dict[int, _Hits],
        written: Written,
        wanted: tuple[str, str],
        parts: list[int],
        patience_s: float | None,
    ) -> None:
        """Look for words and tag in some parts; in those of them that one has the patience for."""
        end = math.inf if patience_s is None else time.monotonic() + patience_s
        there = parts_there(self._workspace, COLUMNS) if parts else {}

        def hits(part: int) -> tuple[int, _Hits]:
            self._before_part()
            return part, np.packbits(_hits(self._workspace, part, written, there, *wanted))

        in_time = takewhile(lambda part: part == parts[0] or time.monotonic() < end, parts)
        for part, hit in at_once(in_time, hits, READERS):
            found[part] = hit


def _stamps(workspace: Workspace, index: Index) -> dict[int, list[str | None]]:
    """Of the files that hold the texts of each part; equal while they stay as they are."""
    listed = {group: workspace.storage.stamps(group) for group in COLUMNS}
    return {
        part: [listed[group].get(part_name(group, part).split("/")[1]) for group in COLUMNS]
        for part in index.parts
    }


def _hits(
    workspace: Workspace, part: int, written: Written, there: Parts, words: str, tag: str
) -> Bools:
    samples, simple = read_part(workspace, part, written, there=there, also=SEARCHED)
    hit: Bools = np.ones(len(simple), np.bool_)
    if tag:
        pattern = rf"(?i)(^|,)\s*{re.escape(tag)}\s*(,|$)"
        hit &= pc.match_substring_regex(simple, pattern).fill_null(False).to_numpy()
    return have_words(samples, simple, words, hit)
