"""Pairs of near-duplicates, as a short list of better neighbours for each image."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

LENGTH = 16
"""Neighbours that are remembered of each image: the best ones."""
_PENDING = 500_000
"""Pairs that are collected before they are sorted in."""


class Neighbours:
    """The best neighbours of each of ``n`` images that are numbered from best to worst.

    A thousand near-equal images make half a million pairs, a million make 5e11. So of each image
    only the ``length`` best neighbours that are better than itself are kept, and the number from
    which on they are unknown: :attr:`bound`. The list of image j holds every pair (j, i) that was
    added with ``i < bound[j]``, whatever the order of adding.
    """

    def __init__(self, n: int, *, length: int = LENGTH) -> None:
        self.n = n
        self.length = length
        self.bound: NDArray[np.int64] = np.arange(n, dtype=np.int64)
        """``[n]`` int64: better neighbours of j at or above this number are not known."""
        self._sorted: NDArray[np.int64] = np.empty(0, np.int64)  # j * n + i
        self._pending: list[NDArray[np.int64]] = []
        self._pending_size = 0

    def add(self, a: NDArray[np.int64], b: NDArray[np.int64]) -> None:
        """Say that images ``a`` ``[p]`` int64 match images ``b`` ``[p]``, in either order."""
        worse, better = np.maximum(a, b), np.minimum(a, b)
        useful = better < self.bound[worse]
        keys = worse[useful] * self.n + better[useful]
        if not keys.size:
            return
        self._pending.append(keys)
        self._pending_size += keys.size
        if self._pending_size > max(_PENDING, self._sorted.size):
            self._settle()

    def lists(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Image and better neighbour of each pair, ``[p]`` int64 each, sorted by both."""
        self._settle()
        worse, better = np.divmod(self._sorted, self.n) if self.n else (self._sorted,) * 2
        known = better < self.bound[worse]
        return worse[known], better[known]

    def complete(self) -> NDArray[np.bool_]:
        """``[n]`` bool: nothing is unknown of these images."""
        self._settle()
        whole: NDArray[np.bool_] = self.bound == np.arange(self.n)
        return whole

    def _settle(self) -> None:
        """Sort the pending pairs in; cut lists that are too long, and lower their bound."""
        if not self._pending:
            return
        keys = np.concatenate([self._sorted, *self._pending])
        self._pending, self._pending_size = [], 0
        keys.sort()  # np.unique hashes, which takes longer
        keys = keys[np.r_[True, keys[1:] != keys[:-1]]]
        worse = keys // self.n
        begins = np.flatnonzero(np.r_[True, worse[1:] != worse[:-1]])
        place = np.arange(keys.size) - np.repeat(begins, np.diff(np.r_[begins, keys.size]))
        first_cut = place == self.length
        cut = worse[first_cut]
        self.bound[cut] = np.minimum(self.bound[cut], keys[first_cut] % self.n)
        self._sorted = keys[place < self.length]
