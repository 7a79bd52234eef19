"""How sure a measured difference is."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_RESAMPLES = 10_000


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval, which a single prompt has not."""

    value: float
    low: float | None
    high: float | None


def mean_of(outcomes: npt.NDArray[np.floating], seed: int = 0) -> Estimate:
    """Of outcomes ``[prompts, seeds]``; the interval is over prompts, by bootstrap.

    Pictures of one prompt are alike, so prompts are drawn again, each with all of its seeds
    (Efron & Tibshirani 1993, An Introduction to the Bootstrap, section 8.3). Of one prompt that
    would always be the same, and tell nothing of others.
    """
    each = outcomes.mean(axis=1)  # [prompts]
    if len(each) == 1:
        return Estimate(float(each[0]), None, None)
    rng = np.random.default_rng(seed)
    drawn = rng.integers(len(each), size=(_RESAMPLES, len(each)))
    means = each[drawn].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    return Estimate(float(each.mean()), float(low), float(high))


def difference(
    new: npt.NDArray[np.floating], base: npt.NDArray[np.floating], seed: int = 0
) -> Estimate:
    """How much better `new` is on the same prompts and seeds, ``[prompts, seeds]`` both."""
    return mean_of(new.astype(float) - base.astype(float), seed)


def mcnemar(new: npt.NDArray[np.bool_], base: npt.NDArray[np.bool_]) -> float:
    """Two-sided p of the exact McNemar test on paired outcomes of any shape.

    Only pairs that differ say anything: under no difference each side wins half of them
    (McNemar 1947, Psychometrika 12:153; exact by the binomial distribution).
    """
    better = int((new & ~base).sum())
    worse = int((base & ~new).sum())
    pairs = better + worse
    tail = sum(math.comb(pairs, k) for k in range(min(better, worse) + 1))
    return float(min(1.0, 2 * tail / 2**pairs))
