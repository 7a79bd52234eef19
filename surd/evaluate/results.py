"""An evaluation's rows, and their table in Markdown."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from surd.evaluate.significance import LEFT_OUT, Estimate

ENOUGH_SCENES = 20
"""Of fewer, the bootstrap's intervals are too narrow to lean on."""


@dataclass(frozen=True)
class Baseline:
    """Another way to the same end, on the same prompts and seeds."""

    name: str
    value: Estimate
    difference: Estimate
    """From the base model."""
    p: float | None
    adapter: Estimate
    """How much more the adapter has."""
    adapter_p: float | None


@dataclass(frozen=True)
class Row:
    """One measure on one set of prompts."""

    prompts: str
    measure: str
    pictures: int
    """Of each side."""
    base: Estimate
    adapter: Estimate
    difference: Estimate
    """Of the same prompts and seeds, paired."""
    p: float | None = None
    """Of the sign-flip test over scenes."""
    lower_is_better: bool = False
    is_share: bool = False
    """Whether it is a share of pictures; else a score."""
    baselines: Sequence[Baseline] = ()
    scenes: int | None = None
    """Different ones among the prompts; None in results of earlier versions."""

    @property
    def label(self) -> str:
        """What is measured."""
        return f"{self.measure} (lower is better)" if self.lower_is_better else self.measure

    @property
    def verdict(self) -> str:
        """What interval and test allow to say: of few scenes the interval alone is too narrow."""
        low, high = self.difference.low, self.difference.high
        if self.difference.value == low == high == 0:
            return "no difference"
        if low is None or high is None or low <= 0 <= high:
            return "may be chance"
        if self.p is not None and self.p > LEFT_OUT:
            return "may be chance"
        return "better" if (low > 0) != self.lower_is_better else "worse"


def table_of(rows: Sequence[Row], sides: tuple[str, str] = ("base", "adapter")) -> str:
    """Each measure of both sides, what the second changes, and how sure that is."""
    lines = [
        f"| prompts | measure | pictures | {sides[0]} | {sides[1]} "
        "| difference (95% interval) | p |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        share = row.is_share
        lines.append(
            f"| {row.prompts} | {row.label} "
            f"| {row.pictures:,} | {shown(row.base.value, share)} "
            f"| {shown(row.adapter.value, share)} | {interval(row.difference, share)} "
            f"| {_p(row.p)} |"
        )
    few = few_scenes(rows)
    if few is not None:
        lines += ["", few]
    if any(row.baselines for row in rows):
        lines += ["", *_beside(rows, sides[1])]
    return "\n".join(lines) + "\n"


def few_scenes(rows: Sequence[Row]) -> str | None:
    """A sentence that names the sets with measures of too few scenes for their intervals to mean
    much; None where there are none."""
    counts: dict[str, set[int]] = {}
    for row in rows:
        if row.scenes is not None and row.scenes < ENOUGH_SCENES:
            counts.setdefault(row.prompts, set()).add(row.scenes)
    if not counts:
        return None
    sets = ", ".join(f"{name} ({_range(some)})" for name, some in counts.items())
    return f"With fewer than {ENOUGH_SCENES} scenes, intervals and p mean little: {sets}."


def _range(counts: set[int]) -> str:
    low, high = min(counts), max(counts)
    return f"{low} to {high} scenes" if low < high else f"{low} scene{'' if low == 1 else 's'}"


def _beside(rows: Sequence[Row], side: str) -> Iterator[str]:
    """The table of the baselines."""
    yield (
        f"| prompts | measure | baseline | value | difference from the base model | p "
        f"| {side}, compared with it | p |"
    )
    yield "|---|---|---|--:|--:|--:|--:|--:|"
    for row in rows:
        for one in row.baselines:
            share = row.is_share
            yield (
                f"| {row.prompts} | {row.label} | {one.name} | {shown(one.value.value, share)} "
                f"| {interval(one.difference, share)} | {_p(one.p)} "
                f"| {interval(one.adapter, share)} | {_p(one.adapter_p)} |"
            )


def _p(p: float | None) -> str:
    return "" if p is None else f"{p:.2g}"


def shown(value: float, share: bool) -> str:
    """A share in percent, anything else with four digits."""
    return f"{100 * value:.1f}%" if share else f"{value:.4g}"


def interval(estimate: Estimate, share: bool) -> str:
    """A difference with its interval: ``+21.0 (+15.5 to +26.5)``, in points where it is a share.

    Others have two digits of the interval's width, all three alike. Without any difference it is
    ``0``.
    """
    scale = 100 if share else 1
    if estimate.value == estimate.low == estimate.high == 0:
        return "0"
    if estimate.low is None or estimate.high is None:
        decimals = 1 if share else _decimals(abs(estimate.value) / 10)
        return f"{_signed(scale * estimate.value, decimals)} (one scene: no interval)"
    decimals = 1 if share else _decimals(estimate.high - estimate.low)
    ends = (estimate.value, estimate.low, estimate.high)
    value, low, high = (_signed(scale * end, decimals) for end in ends)
    return f"{value} ({low} to {high})"


def _decimals(size: float) -> int:
    """For two digits of it."""
    return min(max(1 - math.floor(math.log10(size)), 0), 8) if 0 < size < math.inf else 1


def _signed(value: float, decimals: int) -> str:
    """What rounds to zero is ``+0.0``."""
    return f"{round(value, decimals) + 0.0:+.{decimals}f}"
