"""Embeddings with a cosine of at least a threshold, found cell by cell.

Every pair that comes up in a cell is compared in float32; whatever is near the threshold is
computed again in float64 from the stored values. So no pair is reported wrongly; which pairs come
up at all is said by :func:`reach_for`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from surd.stages.dedup.cells import Cells
from surd.stages.dedup.neighbours import Neighbours

if TYPE_CHECKING:
    from numpy.typing import NDArray

SLACK = 0.5
"""Share of the threshold's distance up to which pairs are found without exception."""
_TILE = 1024
_EXACT_ROWS = 8192
_CROWD = 32
"""So many neighbours each in a tile are more than lists can take."""
_DOUBT = 1e-4
"""Cosines this near the threshold are computed again. Float32 products of unit vectors of 1,024
numbers are within 1e-5."""

Allow = Callable[["NDArray[np.int64]", "NDArray[np.int64]"], "NDArray[np.bool_]"]
"""From pairs of images, ``[p]`` int64 each, to which of them may count, ``[p]`` bool."""


def reach_for(min_cosine: float, slack: float = SLACK) -> float:
    """How far from its cell's walls a row looks over them, for :func:`cells.make_cells`.

    Unit vectors with cosine c are sqrt(2 - 2c) apart. With half of the threshold's distance all
    pairs would be found; that is far more than needed, since a pair is only missed when almost all
    of its difference points straight through a wall. With the share ``slack`` of that, pairs with
    a cosine of 1 - slack^2 (1 - min_cosine) and more are always found (0.9875 for 0.95), and of
    the others those whose difference, seen along the normal of the wall between them, is at most
    ``slack`` of the threshold's distance. (Rows with more than ``MAX_VISITS`` walls near apart.)
    """
    return slack * float(np.sqrt(2 - 2 * min_cosine)) / 2


def usable(embeddings: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.bool_]:
    """``[m]`` bool: which of ``rows`` ``[m]`` hold numbers that are finite and not all zero."""
    result = np.zeros(rows.size, np.bool_)
    for begin in range(0, rows.size, _EXACT_ROWS):
        part = np.asarray(embeddings[rows[begin : begin + _EXACT_ROWS]], np.float32)
        squares = np.einsum("nd,nd->n", part, part)
        result[begin : begin + _EXACT_ROWS] = np.isfinite(squares) & (squares > 0)
    return result


def read_units(embeddings: NDArray[Any], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """``[m, d]`` float32 of length 1, from ``rows`` ``[m]`` of embeddings ``[n, d]``."""
    vectors = np.asarray(embeddings[rows], np.float32)
    vectors /= np.sqrt(np.einsum("nd,nd->n", vectors, vectors))[:, None]
    return vectors


def exact_cosines(
    embeddings: NDArray[Any], a: NDArray[np.int64], b: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Cosines ``[p]`` float64 of rows ``a`` and ``b`` ``[p]``, from the stored values."""
    result = np.empty(a.size, np.float64)
    for begin in range(0, a.size, _EXACT_ROWS):
        left = np.asarray(embeddings[a[begin : begin + _EXACT_ROWS]], np.float64)
        right = np.asarray(embeddings[b[begin : begin + _EXACT_ROWS]], np.float64)
        products = np.einsum("nd,nd->n", left, right)
        squares = np.einsum("nd,nd->n", left, left) * np.einsum("nd,nd->n", right, right)
        result[begin : begin + _EXACT_ROWS] = products / np.sqrt(squares)
    return result


def search(
    embeddings: NDArray[Any],
    rows: NDArray[np.int64],
    cells: Cells,
    min_cosine: float,
    allow: Allow | None,
    asking: NDArray[np.bool_],
    alive: NDArray[np.bool_],
    found: Neighbours,
) -> None:
    """Add the pairs of images with a cosine of at least ``min_cosine`` to ``found``.

    ``rows`` ``[n]`` int64 says where in ``embeddings`` ``[r, d]`` image i is; ``asking`` and
    ``alive`` are ``[n]`` bool. ``allow``, when given, may refuse pairs.
    """
    for cell in range(cells.member_begins.size - 1):
        members = _slice(cells.members, cells.member_begins, cell)
        visitors = _slice(cells.visitors, cells.visitor_begins, cell)
        members, visitors = members[alive[members]], visitors[alive[visitors]]
        if members.size + visitors.size < 2 or not members.size:
            continue
        for begin in range(0, members.size, _TILE):
            tile = members[begin : begin + _TILE]
            others = np.sort(np.concatenate([members[begin:], visitors]))
            vectors: NDArray[np.float32] | None = None
            for start in range(0, others.size, _TILE):
                other = others[start : start + _TILE]
                other = other[_may_matter(tile, other, asking, found.bound)]
                if not other.size:
                    continue
                if vectors is None:
                    vectors = read_units(embeddings, rows[tile])
                cosines = read_units(embeddings, rows[other]) @ vectors.T
                _add_hits(cosines, other, tile, embeddings, rows, min_cosine, allow, asking, found)


def _slice(values: NDArray[np.int64], begins: NDArray[np.int64], cell: int) -> NDArray[np.int64]:
    return values[begins[cell] : begins[cell + 1]]


def _may_matter(
    tile: NDArray[np.int64],
    other: NDArray[np.int64],
    asking: NDArray[np.bool_],
    bound: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """``[m]`` bool: which of ``other`` ``[m]`` can still add to a list, with anything of ``tile``.

    Lists that are full of better neighbours want no worse ones; among very many images that are
    all alike, this spares nearly all the work.
    """
    as_worse = asking[other] & (tile[0] < bound[other])
    wanting = tile[asking[tile]]
    furthest = bound[wanting].max() if wanting.size else -1
    as_better = other < furthest
    result: NDArray[np.bool_] = as_worse | as_better
    return result


def _add_hits(
    cosines: NDArray[np.float32],
    other: NDArray[np.int64],
    tile: NDArray[np.int64],
    embeddings: NDArray[Any],
    rows: NDArray[np.int64],
    min_cosine: float,
    allow: Allow | None,
    asking: NDArray[np.bool_],
    found: Neighbours,
) -> None:
    """Add what counts of ``cosines`` ``[m, t]`` of images ``other`` and ``tile``."""
    hits = cosines >= np.float32(min_cosine - _DOUBT)
    if allow is None and np.count_nonzero(hits) > _CROWD * sum(hits.shape):
        sure = cosines >= np.float32(min_cosine + _DOUBT)
        hits = _best_hits(hits, sure, other, tile, found.length + 1)
    i, j = np.nonzero(hits)
    a, b, value = other[i], tile[j], cosines[i, j]
    worse, better = np.maximum(a, b), np.minimum(a, b)
    wanted = asking[worse] & (better < found.bound[worse])
    a, b, value = a[wanted], b[wanted], value[wanted]
    if allow is not None and a.size:
        allowed = allow(a, b)
        a, b, value = a[allowed], b[allowed], value[allowed]
    sure = value >= np.float32(min_cosine + _DOUBT)
    unsure = np.flatnonzero(~sure)
    if unsure.size:
        exact = exact_cosines(embeddings, rows[a[unsure]], rows[b[unsure]])
        sure[unsure] = exact >= min_cosine
    found.add(a[sure], b[sure])


def _best_hits(
    hits: NDArray[np.bool_],
    sure: NDArray[np.bool_],
    other: NDArray[np.int64],
    tile: NDArray[np.int64],
    count: int,
) -> NDArray[np.bool_]:
    """``hits`` ``[m, t]`` up to the ``count``-th best that is ``sure``; both sides ascend."""
    tile_better = tile < other[:, None]
    left = hits & tile_better
    left &= np.cumsum(left & sure, axis=1, dtype=np.int16) <= count
    right = hits & ~tile_better
    right &= np.cumsum(right & sure, axis=0, dtype=np.int16) <= count
    return left | right
