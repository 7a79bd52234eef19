"""Perceptual hashes within a Hamming distance, all of them, without comparing each with each.

By the pigeonhole principle, two hashes of 64 bits that differ in at most d bits are equal in at
least one of d + 1 bands of bits, so only hashes that share a band are compared: multi-index
hashing (Norouzi, Punjani, Fleet 2012, https://arxiv.org/abs/1307.2982). A band that too many share
is cut again, by the same argument, along the bits that are left. No pair is missed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from surd.stages.dedup.neighbours import Neighbours

if TYPE_CHECKING:
    from numpy.typing import NDArray

BITS = 64
MAX_DISTANCE = 16
"""Beyond this, bands are too short to be of use, and hashes too far apart to mean anything."""
MIN_ONES = 12
"""Fewer ones, or fewer zeros, than this tell too little; see :func:`telling`."""
MAX_COMMON = 100
"""More different images than this do not share a hash because they are duplicates."""
_BUCKET = 256
_EXPAND = 4_000_000

_U64 = np.uint64


def popcount(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Ones in each of ``values`` (uint64, any shape)."""
    if hasattr(np, "bitwise_count"):  # numpy 2
        ones: NDArray[np.uint8] = np.bitwise_count(values)
        return ones
    return _popcount_by_halves(values)


def _popcount_by_halves(values: NDArray[np.uint64]) -> NDArray[np.uint8]:
    """Sums of 2, 4 and 8 bits, then of all bytes (Warren, Hacker's Delight, figure 5-2)."""
    v = values - ((values >> _U64(1)) & _U64(0x5555555555555555))
    v = (v & _U64(0x3333333333333333)) + ((v >> _U64(2)) & _U64(0x3333333333333333))
    v = (v + (v >> _U64(4))) & _U64(0x0F0F0F0F0F0F0F0F)
    ones: NDArray[np.uint8] = v.view(np.uint8).reshape(*v.shape, 8).sum(axis=-1, dtype=np.uint8)
    return ones


def telling(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """``[n]`` bool: which of ``hashes`` ``[n]`` uint64, one per different image, say something.

    The bits of a DCT hash say which of 64 frequencies are above their median, so half of them are
    ones, unless many are equal to it: in flat pictures, plain gradients and the like all bits but
    a few are zeros. Such hashes (fewer than ``MIN_ONES`` ones or zeros) are alike because there is
    little in them. So may hashes be that more than ``MAX_COMMON`` different images share: frames,
    placeholders, one layout. Neither is evidence that two images are the same.
    """
    ones = popcount(hashes)
    _, inverse, counts = np.unique(hashes, return_inverse=True, return_counts=True)
    common = counts[inverse.reshape(-1)] > MAX_COMMON
    result: NDArray[np.bool_] = (ones >= MIN_ONES) & (ones <= BITS - MIN_ONES) & ~common
    return result


def search(
    hashes: NDArray[np.uint64],
    known: NDArray[np.bool_],
    max_distance: int,
    asking: NDArray[np.bool_],
    alive: NDArray[np.bool_],
    found: Neighbours,
) -> None:
    """Add every pair of images whose hashes differ in at most ``max_distance`` bits to ``found``.

    ``hashes`` is ``[n]`` uint64; ``known``, ``asking``, ``alive`` are ``[n]`` bool. Pairs are of
    one image that asks and one that is alive, both with a known hash.
    """
    members = np.flatnonzero(known & alive)
    order = np.argsort(hashes[members], kind="stable")
    members = members[order]  # groups of equal hashes, best first in each
    values, begins = np.unique(hashes[members], return_index=True)
    if not values.size:
        return
    sizes = np.diff(np.r_[begins, members.size])
    asked = np.add.reduceat(asking[members].astype(np.int64), begins) > 0
    same = np.flatnonzero((sizes > 1) & asked)
    _add_groups(same, same, begins, sizes, members, found)
    for a, b in near_pairs(values, max_distance):
        either = asked[a] | asked[b]
        _add_groups(a[either], b[either], begins, sizes, members, found)


def _add_groups(
    a: NDArray[np.int64],
    b: NDArray[np.int64],
    begins: NDArray[np.int64],
    sizes: NDArray[np.int64],
    members: NDArray[np.int64],
    found: Neighbours,
) -> None:
    """Add each member of groups ``a`` ``[p]`` with each of groups ``b`` ``[p]``."""
    pairs = sizes[a] * sizes[b]
    total = np.cumsum(pairs)
    start = 0
    while start < a.size:
        done = int(total[start - 1]) if start else 0
        stop = max(start + 1, int(np.searchsorted(total, done + _EXPAND, side="right")))
        part = slice(start, stop)
        first = np.repeat(total[part] - pairs[part], pairs[part])
        inside = np.arange(done, int(total[stop - 1])) - first
        rows, columns = np.divmod(inside, np.repeat(sizes[b[part]], pairs[part]))
        left = members[np.repeat(begins[a[part]], pairs[part]) + rows]
        right = members[np.repeat(begins[b[part]], pairs[part]) + columns]
        found.add(left, right)
        start = stop


def near_pairs(
    values: NDArray[np.uint64], max_distance: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Every pair of different ``values`` ``[n]`` uint64 that differ in few bits, once.

    Yields positions (a, b), ``[p]`` int64 each. ``values`` must not repeat. Raises ValueError
    when ``max_distance`` is not in 0..16.
    """
    if not 0 <= max_distance <= MAX_DISTANCE:
        raise ValueError(f"max_distance is {max_distance}; it must be in 0..{MAX_DISTANCE}")
    if max_distance == 0:
        return
    yield from _cut(values, np.arange(values.size), list(range(BITS)), [], max_distance)


def _cut(
    values: NDArray[np.uint64],
    rows: NDArray[np.int64],
    bits: list[int],
    unequal: list[np.uint64],
    max_distance: int,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Near pairs among ``rows`` ``[m]``, whose values are equal but for ``bits``.

    A pair that shares several bands comes up in each; it counts in the first, that is where it
    differs in all the bands (``unequal``) before.
    """
    bands = max_distance + 1
    if rows.size <= 2 or len(bits) < bands:
        yield from _compare(values, rows, np.zeros(rows.size, np.uint64), unequal, max_distance)
        return
    before = list(unequal)
    for number in range(bands):
        band = bits[number::bands]
        mask = _U64(sum(1 << bit for bit in band))
        keys = values[rows] & mask
        order = np.argsort(keys, kind="stable")
        keys, members = keys[order], rows[order]
        begins = np.flatnonzero(np.r_[True, keys[1:] != keys[:-1]])
        sizes = np.diff(np.r_[begins, keys.size])
        small = np.repeat(sizes <= _BUCKET, sizes)
        yield from _compare(values, members[small], keys[small], before, max_distance)
        left = [bit for bit in bits if bit not in band]
        for begin, size in zip(begins.tolist(), sizes.tolist(), strict=True):
            if size > _BUCKET:
                bucket = members[begin : begin + size]
                yield from _cut(values, bucket, left, before, max_distance)
        before = [*before, mask]


def _compare(
    values: NDArray[np.uint64],
    rows: NDArray[np.int64],
    keys: NDArray[np.uint64],
    unequal: list[np.uint64],
    max_distance: int,
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Compare ``rows`` ``[m]`` with those after them that have the same of ``keys`` (sorted)."""
    ordered = values[rows]
    active = np.arange(rows.size)
    step = 0
    while active.size:
        step += 1
        active = active[: np.searchsorted(active, rows.size - step)]
        active = active[keys[active] == keys[active + step]]
        difference = ordered[active] ^ ordered[active + step]
        near = popcount(difference) <= max_distance
        for mask in unequal:
            if not near.any():
                break
            near &= (difference & mask) != 0
        hits = active[near]
        if hits.size:
            yield rows[hits], rows[hits + step]
