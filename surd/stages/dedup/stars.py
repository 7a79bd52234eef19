"""Clusters of near-duplicates: stars around the best, never chains.

"Near" is not transitive: a, b and c may each be near the next while a and c show different things,
and connected components (union-find) would make one cluster of all three. Here images are gone
through from best to worst. One that is near none of those kept so far is kept; any other joins the
best kept one it is near. So every dropped image is itself near the one that is kept instead, and
no two kept ones are near each other.

This is the greedy maximal independent set in a given order (Blelloch, Fineman, Shun 2012,
https://arxiv.org/abs/1202.3205), "star clustering" in information retrieval (Aslam, Pelekhov, Rus
2004, https://doi.org/10.7155/jgaa.00084) with the quality in place of the degree.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from surd.stages.dedup.neighbours import LENGTH, Neighbours

if TYPE_CHECKING:
    from numpy.typing import NDArray

Search = Callable[["NDArray[np.bool_]", "NDArray[np.bool_]", Neighbours], None]
"""``search(asking, alive, found)`` adds pairs to ``found``: at least every pair of an image that
asks with one that is alive (both ``[n]`` bool), always by the same rule."""

_UNKNOWN = -1


def stars(n: int, searches: list[Search], *, length: int = LENGTH) -> NDArray[np.int64]:
    """``[n]`` int64: of each image the one that is kept instead, itself when it is kept.

    Images are numbered from best to worst. The result is that of going through all pairs in that
    order, although only ``length`` neighbours of each image are remembered: where all of them
    turned out to be dropped, and there were more, the image asks again, of those still alive. The
    best image that asks is decided each time, so this ends; in practice after two or three times.
    """
    keeper = np.full(n, _UNKNOWN, np.int64)
    number = np.arange(n)
    while (asking := keeper == _UNKNOWN).any():
        found = Neighbours(n, length=length)
        alive = asking | (keeper == number)
        for search in searches:
            search(asking, alive, found)
        _decide(keeper, asking, found)
    return keeper


def _decide(keeper: NDArray[np.int64], asking: NDArray[np.bool_], found: Neighbours) -> None:
    """Fill in ``keeper`` ``[n]`` of the images that ask, as far as ``found`` tells."""
    complete = found.complete()
    worse, better = found.lists()
    wanted = asking[worse]
    worse, better = worse[wanted], better[wanted]
    alone = asking & complete
    alone[worse] = False
    keeper[alone] = np.flatnonzero(alone)

    images, begins = np.unique(worse, return_index=True)
    decided = keeper.tolist()  # single elements of a list are read faster than of an array
    neighbours = better.tolist()
    whole = complete[images].tolist()
    ends = np.r_[begins, better.size][1:].tolist()
    for image, begin, end, known in zip(images.tolist(), begins.tolist(), ends, whole, strict=True):
        choice = image if known else _UNKNOWN
        for neighbour in neighbours[begin:end]:
            if decided[neighbour] == _UNKNOWN:
                choice = _UNKNOWN
                break
            if decided[neighbour] == neighbour:
                choice = neighbour
                break
        decided[image] = choice
    keeper[images] = np.array([decided[image] for image in images.tolist()], np.int64)
