"""How far apart two computations of the same may be: as far as rounding takes them, here.

No constant fits every processor: kernels sum in other orders, and so round otherwise. What the
library itself is off float64, on this machine and with the same numbers, does.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.ArrayLike
TIMES = 8.0
"""Sums in another order err otherwise, if as much."""


def rounding(computed: Array, exact: Array) -> float:
    """How far what a library computed is from float64, of the largest number of each last axis.

    No less than a last bit of float32, which it may happen to get right.
    """
    exact = np.asarray(exact, np.float64)
    error = np.abs(np.asarray(computed, np.float64) - exact)
    return float((error / _sizes(exact)).max(initial=np.finfo(np.float32).eps))


def assert_only_rounded(found: Array, exact: Array, error: float) -> None:
    """That what was found is as near to float64 as `error`, from `rounding`, says.

    What is stored in float16 may be off by half of its last bit, too.
    """
    exact = np.asarray(exact, np.float64)
    allowed = TIMES * error * np.broadcast_to(_sizes(exact), exact.shape)
    if np.asarray(found).dtype == np.float16:
        allowed = allowed + (np.abs(exact) + allowed) * 2.0**-11 + 2.0**-25
    off = np.abs(np.asarray(found, np.float64) - exact)
    assert off.shape == exact.shape and (off <= allowed).all(), (off - allowed).max()


def _sizes(exact: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return np.maximum(np.abs(exact).max(axis=-1, keepdims=True), np.finfo(np.float32).tiny)
