"""Thresholds: a number, a quantile such as p30, or one that the scores themselves suggest."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BeforeValidator

AUTO = "auto"
"""In place of a threshold: the cut between two heaps, else what drops at most a tenth."""
_ENOUGH = 100
"""Of fewer scores, two heaps may be chance: of 20 normal ones in 4 of 100 draws, of 100 in none."""
_TWO_HEAPS = 0.8
_QUANTILE = re.compile(r"p(\d+(?:\.\d+)?)")


def _checked(value: Any) -> float | str:
    if isinstance(value, str):
        if value.strip().lower() == AUTO:
            return AUTO
        found = _QUANTILE.fullmatch(value.strip().lower())
        if found and float(found[1]) <= 100:
            return f"p{found[1]}"
    try:
        number = float("nan" if isinstance(value, bool) else value)
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if not math.isfinite(number):
        raise ValueError("write a number, a quantile from p0 to p100 such as p30, or auto")
    return number


def _within(least: float, most: float, what: str) -> BeforeValidator:
    def checked(value: Any) -> float | str:
        threshold = _checked(value)
        if isinstance(threshold, float) and not least <= threshold <= most:
            raise ValueError(
                f"{what} lies between {least:g} and {most:g}; or write a quantile such as p30, or "
                "auto"
            )
        return threshold

    return BeforeValidator(checked)


Threshold = Annotated[float | str, BeforeValidator(_checked)]
"""Any finite number; ``pN``, the N-th percentile of the values there are; or ``auto``."""
Cosine = Annotated[float | str, _within(-1, 1, "a cosine")]
"""A number from -1 to 1, ``pN`` or ``auto``."""
Margin = Annotated[float | str, _within(-2, 2, "a difference of cosines")]
"""A number from -2 to 2, ``pN`` or ``auto``."""
Probability = Annotated[float | str, _within(0, 1, "a probability")]
"""A number from 0 to 1, ``pN`` or ``auto``."""


@dataclass(frozen=True)
class Resolved:
    """The number a threshold means."""

    number: float
    why: str | None = None
    """How ``auto`` came to it."""


def resolve(threshold: float | str, values: npt.NDArray[np.floating]) -> Resolved:
    """What a threshold means, given all values ``[n]`` (NaN where there is none).

    It depends on the values alone, in any order.
    """
    if isinstance(threshold, float):
        return Resolved(threshold)
    if threshold == AUTO:
        return _chosen(values)
    there = values[~np.isnan(values)]
    return Resolved(float(np.percentile(there, float(threshold[1:]))) if len(there) else math.nan)


def _chosen(values: npt.NDArray[np.floating]) -> Resolved:
    """Between two heaps if the lower is the smaller: most prompts fit their pictures. Else at most
    a tenth is below, of ten or fewer none."""
    there = values[~np.isnan(values)]
    cut = suggest(there)
    if not len(there):
        return Resolved(math.nan)
    if len(there) < _ENOUGH:
        why = "too few scores to look for two peaks"
    elif cut is None:
        why = "the scores have no two clear peaks"
    elif np.mean(there < cut) > 0.5:
        why = "the lower of two peaks is the larger"
    else:
        return Resolved(cut, "auto: between two clear peaks of the scores")
    number = float(np.percentile(there, 10, method="lower"))
    return Resolved(number, f"auto: drops at most the lowest tenth, since {why}")


def suggest(values: npt.NDArray[np.floating]) -> float | None:
    """The threshold that best parts the values into two heaps; None where there is one heap.

    It maximises the variance between the heaps over a histogram of 256 bins (Otsu 1979, "A
    threshold selection method from gray-level histograms"). Two heaps there are when that is at
    least 0.8 of the whole variance: a uniform distribution has 0.75, a normal one 0.64.
    """
    there = values[~np.isnan(values)]
    if len(there) < 2 or there.min() == there.max():
        return None
    counts, edges = np.histogram(there, bins=256)
    centers = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)[:-1]  # [255]
    above = len(there) - below
    sums = np.cumsum(counts * centers)
    mean_below = sums[:-1] / np.maximum(below, 1)
    mean_above = (sums[-1] - sums[:-1]) / np.maximum(above, 1)
    between = below * above * (mean_below - mean_above) ** 2
    variance = np.sum(counts * (centers - sums[-1] / len(there)) ** 2) * len(there)
    if between.max() < _TWO_HEAPS * variance:
        return None
    best = np.flatnonzero(between >= between.max() * (1 - 1e-12))  # a gap: take its middle
    return float(edges[1:][best].mean())
