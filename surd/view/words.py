"""Who has words in their prompts: a scan of all texts, remembered while nothing changes."""

from __future__ import annotations

import math
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise, takewhile

import numpy as np
import pyarrow.compute as pc

from surd.dataset.simple_prompts import COLUMNS, Written, read_part
from surd.dataset.words import SEARCHED, have_words
from surd.store.aligned import Parts, parts_there
from surd.store.prefetch import READERS, at_once
from surd.store.workspace import Workspace
from surd.view.index import Bools, Index

PATIENCE_S = 1.5
"""How long a page is kept waiting. What is found by then is shown, and the page asks on."""
_REMEMBERED = 8
"""Searches, a byte a sample each: whoever turns a page, sorts or narrows asks for the same words
again."""


@dataclass(frozen=True)
class _Search:
    """What one search has found so far."""

    parts: Bools
    """``[parts]``: which have been gone through."""
    rows: Bools
    """``[n]``"""


class WordSearch:
    """One workspace's texts. Threads share it, and wait for each other."""

    def __init__(self, workspace: Workspace, before_part: Callable[[], None]) -> None:
        """``before_part`` may raise, to end a search early."""
        self._workspace = workspace
        self._before_part = before_part
        self._lock = threading.Lock()
        self._index: Index | None = None
        self._written: Written | None = None
        self._known: OrderedDict[tuple[str, str], _Search] = OrderedDict()

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
            if self._index is not index or self._written != written:
                self._index, self._written = index, written
                self._known.clear()
            search = self._known.setdefault((words, tag), _nothing(index))
            self._known.move_to_end((words, tag))
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
            bounds = pairwise(index.starts.tolist())
            asked = [at for at, (start, end) in enumerate(bounds) if among[start:end].any()]
            left = [at for at in asked if not search.parts[at]]
            self._go_through(search, index, written, (words, tag), left, patience_s)
            sizes = np.diff(index.starts)[asked]
            searched = sizes[search.parts[asked]].sum() / sizes.sum() if asked else 1.0
            return search.rows, float(searched)

    def _go_through(
        self,
        search: _Search,
        index: Index,
        written: Written,
        wanted: tuple[str, str],
        parts: list[int],
        patience_s: float | None,
    ) -> None:
        """Look for words and tag in some parts, by their places; in those of them that one has the
        patience for."""
        end = math.inf if patience_s is None else time.monotonic() + patience_s
        there = parts_there(self._workspace, COLUMNS) if parts else {}

        def hits(at: int) -> tuple[int, Bools]:
            self._before_part()
            return at, _hits(self._workspace, index.parts[at], written, there, *wanted)

        in_time = takewhile(lambda at: at == parts[0] or time.monotonic() < end, parts)
        for at, hit in at_once(in_time, hits, READERS):
            search.rows[index.starts[at] : index.starts[at + 1]] = hit
            search.parts[at] = True


def _nothing(index: Index) -> _Search:
    return _Search(np.zeros(len(index.parts), np.bool_), np.zeros(len(index), np.bool_))


def _hits(
    workspace: Workspace, part: int, written: Written, there: Parts, words: str, tag: str
) -> Bools:
    samples, simple = read_part(workspace, part, written, there=there, also=SEARCHED)
    hit: Bools = np.ones(len(simple), np.bool_)
    if tag:
        pattern = rf"(?i)(^|,)\s*{re.escape(tag)}\s*(,|$)"
        hit &= pc.match_substring_regex(simple, pattern).fill_null(False).to_numpy()
    return have_words(samples, simple, words, hit)
