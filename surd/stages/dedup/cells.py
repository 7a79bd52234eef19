"""Cells of a space of embeddings, and which of them a row may share with its near-duplicates.

A cell is what is nearest to one centroid, as in an inverted file index (Sivic, Zisserman 2003,
https://doi.org/10.1109/ICCV.2003.1238663). Two rows that are near each other lie in the same cell,
or on both sides of the plane between two cells, and then the nearer of them is at most half their
distance from it. So a row also visits those cells whose plane it is that near to: most rows visit
few, rows amid several cells visit more, and the smaller the distance that counts, the fewer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

CELLS_PER_ROOT = 4.0
"""Cells for n rows: this times the square root of n."""
MIN_CELL_ROWS = 32
"""No more cells than leave this many rows in each."""
SAMPLE_PER_CELL = 16
ROUNDS = 5
MAX_VISITS = 32
"""Cells that a row visits at most, the nearest planes first; its own does not count."""
_BLOCK = 1024
_SAME_PLACE = 1e-3

Read = Callable[["NDArray[np.int64]"], "NDArray[np.float32]"]
"""From row numbers ``[m]`` to unit vectors ``[m, d]`` float32."""


@dataclass(frozen=True)
class Cells:
    """Who is in which of ``k`` cells: rows sorted by cell, and by number within each."""

    members: NDArray[np.int64]
    """``[n]``; those of cell c are ``members[member_begins[c]:member_begins[c + 1]]``."""
    member_begins: NDArray[np.int64]
    """``[k + 1]``."""
    visitors: NDArray[np.int64]
    """``[v]``, likewise; members do not count as visitors."""
    visitor_begins: NDArray[np.int64]
    """``[k + 1]``."""


def cell_count(n: int) -> int:
    """How many cells suit ``n`` rows: to assign and to compare then cost about the same."""
    return max(1, min(int(CELLS_PER_ROOT * n**0.5), n // MIN_CELL_ROWS))


def make_cells(rows: NDArray[np.int64], read: Read, reach: float, *, seed: int) -> Cells:
    """Cells of ``rows`` ``[n]`` int64, which ``read`` turns into vectors.

    Of any two rows at a Euclidean distance of at most ``2 * reach``, one is a member of the
    other's cell or visits it, unless it has more than ``MAX_VISITS`` cells within reach.
    """
    k = cell_count(rows.size)
    if k == 1:
        everything = np.array([0, rows.size])
        return Cells(np.sort(rows), everything, rows[:0], np.zeros(2, np.int64))
    rng = np.random.default_rng(seed)
    sample = np.sort(rng.choice(rows, min(rows.size, k * SAMPLE_PER_CELL), replace=False))
    centroids = _apart(train(read(sample), k, rng))
    k, spread = len(centroids), _distances(centroids)
    home = np.empty(rows.size, np.int32)
    visiting: list[NDArray[np.int64]] = []
    visited: list[NDArray[np.int32]] = []
    for begin in range(0, rows.size, _BLOCK):
        part = rows[begin : begin + _BLOCK]
        home[begin : begin + _BLOCK], who, where = _assign(read(part), centroids, spread, reach)
        visiting.append(part[who])
        visited.append(where.astype(np.int32))
    members, member_begins = _by_cell(rows, home, k)
    visitors, visitor_begins = _by_cell(np.concatenate(visiting), np.concatenate(visited), k)
    return Cells(members, member_begins, visitors, visitor_begins)


def train(sample: NDArray[np.float32], k: int, rng: np.random.Generator) -> NDArray[np.float32]:
    """Centroids ``[k, d]`` float32 of ``sample`` ``[s, d]``, s >= k: a few rounds of k-means."""
    centroids: NDArray[np.float32] = sample[np.sort(rng.choice(len(sample), k, replace=False))]
    for _ in range(ROUNDS):
        home = np.concatenate(
            [
                np.argmax(_closeness(sample[begin : begin + _BLOCK], centroids), axis=1)
                for begin in range(0, len(sample), _BLOCK)
            ]
        )
        order = np.argsort(home, kind="stable")
        filled, begins, counts = np.unique(home[order], return_index=True, return_counts=True)
        sums = np.add.reduceat(sample[order], begins, axis=0)
        centroids[filled] = sums / counts[:, None].astype(np.float32)
    return centroids


def _closeness(vectors: NDArray[np.float32], centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """``[b, k]``: x c - |c|^2 / 2, which is -|x - c|^2 / 2 but for a term of x alone."""
    half = np.einsum("kd,kd->k", centroids, centroids) / np.float32(2)
    scores: NDArray[np.float32] = vectors @ centroids.T
    scores -= half
    return scores


def _distances(centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """``[k, k]`` float32 between centroids."""
    squares = np.einsum("kd,kd->k", centroids, centroids)
    products = centroids @ centroids.T
    spread: NDArray[np.float32] = np.sqrt(np.maximum(squares[:, None] + squares - 2 * products, 0))
    return spread


def _apart(centroids: NDArray[np.float32]) -> NDArray[np.float32]:
    """``[m, d]``: ``centroids`` ``[k, d]`` without those that lie where another one is."""
    together = np.tril(_distances(centroids) < _SAME_PLACE, -1)
    return centroids[~together.any(axis=1)]


def _assign(
    vectors: NDArray[np.float32],
    centroids: NDArray[np.float32],
    spread: NDArray[np.float32],
    reach: float,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Home cell ``[b]`` of vectors ``[b, d]``, and (vector, cell) of each visit.

    The distance of x from the plane between the cells of h and c is the difference of their
    closeness over |h - c|.
    """
    scores = _closeness(vectors, centroids)
    home = np.argmax(scores, axis=1)
    best = scores[np.arange(home.size), home]
    widest = spread.max(axis=1)[home]
    who, where = np.nonzero(scores >= (best - np.float32(reach) * widest)[:, None])
    other = where != home[who]
    who, where = who[other], where[other]
    distance = (best[who] - scores[who, where]) / spread[home[who], where]
    near = distance <= reach
    who, where, distance = who[near], where[near], distance[near]
    order = np.lexsort((where, distance, who))
    who, where = who[order], where[order]
    place = np.arange(who.size) - np.searchsorted(who, who)
    few = place < MAX_VISITS
    return home, who[few], where[few]


def _by_cell(
    rows: NDArray[np.int64], cells: NDArray[np.int32], k: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """``rows`` sorted by cell and number, and where each of ``k`` cells begins ``[k + 1]``."""
    order = np.lexsort((rows, cells))
    begins = np.searchsorted(cells[order], np.arange(k + 1))
    return rows[order], begins.astype(np.int64)
