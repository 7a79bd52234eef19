"""How far the axis of a histogram goes, and what a caption says of what lies beyond."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_FEW = 20


def axis_end(counts: npt.NDArray[np.int64]) -> int:
    """How many bins an axis shows: up to the last sample, or without a tail that is half of it or
    more and holds hardly anything: a hundredth of the samples, of 20 and more at least one."""
    last = int(np.flatnonzero(counts).max(initial=0)) + 1
    total = int(counts.sum())
    few = max(total // 100, 1 if total >= _FEW else 0)
    near = int(np.searchsorted(np.cumsum(counts), total - few)) + 1
    return near if 2 * near <= last else last


def axis_range(counts: npt.NDArray[np.int64]) -> tuple[int, int]:
    """The first bin that an axis shows, and the one after the last: both tails as in
    :func:`axis_end`."""
    start, end = 0, len(counts)
    for _ in range(2):  # without one tail, the other may be half of what is left
        end = start + axis_end(counts[start:end])
        start = end - axis_end(counts[start:end][::-1])
    return start, end


def beyond(count: int, which: str) -> str:
    """What a caption says of samples that an axis leaves out."""
    return f"; {count:,} {which} {'is' if count == 1 else 'are'} beyond the axis" if count else ""
