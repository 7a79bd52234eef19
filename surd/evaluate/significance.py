"""How sure a measured difference is.

Outcomes are ``[prompts, seeds]``. Prompts of one scene show the same things and are drawn alike, so
scenes, and not pictures, are what is drawn again and what flips its sign.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.floating]
Scenes = Sequence[str] | None
"""What each prompt is about; None: each something else."""
_RESAMPLES = 10_000
_EXACT_SCENES = 14
"""Up to here every choice of signs is tried."""
LEFT_OUT = 0.05
"""What an interval may miss, and p may be where a difference is told."""


@dataclass(frozen=True)
class Estimate:
    """A mean with its 95% interval, which a single scene has not."""

    value: float
    low: float | None
    high: float | None


def mean_of(outcomes: npt.NDArray[np.bool_] | Floats, scenes: Scenes = None) -> Estimate:
    """The mean, with an interval over scenes.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, section 8.3.
    """
    share = outcomes.dtype == bool
    return _estimate(outcomes.astype(float), scenes, (0.0, 1.0) if share else None)


def difference(
    new: npt.NDArray[np.bool_] | Floats,
    base: npt.NDArray[np.bool_] | Floats,
    scenes: Scenes = None,
) -> Estimate:
    """How much better `new` is on the same prompts and seeds."""
    share = new.dtype == bool
    return _estimate(new.astype(float) - base.astype(float), scenes, (-1.0, 1.0) if share else None)


def _estimate(outcomes: Floats, scenes: Scenes, ends: tuple[float, float] | None) -> Estimate:
    """`ends` are the least and the largest value possible, where there are some."""
    each = outcomes.mean(axis=1)  # [prompts]
    sums, counts = _by_scene(each, scenes)
    value = float(each.mean())
    if len(sums) == 1:
        return Estimate(value, None, None)
    if ends is not None and np.ptp(sums / counts) == 0:
        # Alike in all n scenes, which is not alike in all there are: of a share p of others, none
        # is among n with probability (1 - p)^n.
        unseen = 1 - LEFT_OUT ** (1 / len(sums))
        return Estimate(value, max(ends[0], value - unseen), min(ends[1], value + unseen))
    rng = np.random.default_rng(0)
    drawn = rng.integers(len(sums), size=(_RESAMPLES, len(sums)))
    means = sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)
    low, high = np.quantile(means, (LEFT_OUT / 2, 1 - LEFT_OUT / 2))
    return Estimate(value, float(low), float(high))


def sign_flip(
    new: npt.NDArray[np.bool_] | Floats,
    base: npt.NDArray[np.bool_] | Floats,
    scenes: Scenes = None,
) -> float:
    """Two-sided p of the sign-flip test: how often the sum of the scenes' differences is as far
    from zero when each has a sign by chance, as it has where nothing differs.

    Source: Fisher 1935, The Design of Experiments, section 21.
    """
    sums, _ = _by_scene((new.astype(float) - base.astype(float)).mean(axis=1), scenes)
    sums = sums[sums != 0]
    if not len(sums):
        return 1.0
    exact = len(sums) <= _EXACT_SCENES
    if exact:
        bits = np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1
    else:
        bits = np.random.default_rng(0).integers(2, size=(_RESAMPLES, len(sums)))
    found = np.abs((2 * bits - 1) @ sums)
    as_far = int((found >= abs(sums.sum()) * (1 - 1e-9)).sum())
    return as_far / len(found) if exact else (1 + as_far) / (1 + len(found))


def _by_scene(each: Floats, scenes: Scenes) -> tuple[Floats, Floats]:
    """The sum over the prompts of each scene, and their number."""
    if scenes is None:
        return each, np.ones_like(each)
    _, places = np.unique(np.asarray(scenes, dtype=str), return_inverse=True)
    counts: Floats = np.bincount(places).astype(float)
    return np.bincount(places, each).astype(float), counts
