"""An evaluation's rows, and their table in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from surd.evaluate.significance import LEFT_OUT, Estimate


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

    @property
    def label(self) -> str:
        """What is measured."""
        return f"{self.measure} (lower is better)" if self.lower_is_better else self.measure

    @property
    def verdict(self) -> str:
        """What interval and test allow to say: of few scenes the interval alone is too narrow."""
        low, high = self.difference.low, self.difference.high
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
            f"| {'' if row.p is None else f'{row.p:.2g}'} |"
        )
    return "\n".join(lines) + "\n"


def shown(value: float, share: bool) -> str:
    """A share in percent, anything else with four digits."""
    return f"{100 * value:.1f}%" if share else f"{value:.4g}"


def interval(estimate: Estimate, share: bool) -> str:
    """A difference with its interval: ``+21.0 (15.5 to 26.5)``, in points where it is a share."""
    scale, digits = (100, "+.1f") if share else (1, "+.3g")
    told = f"{scale * estimate.value:{digits}}"
    if estimate.low is None or estimate.high is None:
        return f"{told} (one scene: no interval)"
    return f"{told} ({scale * estimate.low:{digits}} to {scale * estimate.high:{digits}})"
