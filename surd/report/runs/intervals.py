"""Differences with their 95% intervals: the rows of an evaluation, and dots on lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from surd.errors import SurdError
from surd.evaluate.significance import Estimate
from surd.evaluate.table import interval
from surd.pages.plot import plot
from surd.pages.text import visible

_ROW_PX = 28


@dataclass(frozen=True)
class Measured:
    """A row of an evaluation."""

    prompts: str
    measure: str
    pictures: int
    base: Estimate
    adapter: Estimate
    difference: Estimate
    p: float | None
    lower_is_better: bool

    @property
    def share(self) -> bool:
        """Whether it is a share of pictures; else a score."""
        return self.p is not None

    @property
    def label(self) -> str:
        """What is measured."""
        told = visible(self.measure, 80) or ""
        return f"{told} (lower is better)" if self.lower_is_better else told

    @property
    def verdict(self) -> str:
        """What the interval allows to say."""
        if self.difference.low <= 0 <= self.difference.high:
            return "may be chance"
        return "better" if (self.difference.low > 0) != self.lower_is_better else "worse"

    def point(self, label: str) -> dict[str, Any]:
        """For a plot: the difference, of shares in percentage points."""
        scale = 100 if self.share else 1
        found = {name: getattr(self.difference, name) for name in ("value", "low", "high")}
        return {
            "label": label,
            **{name: float(f"{scale * value:.5g}") for name, value in found.items()},
            "told": interval(self.difference, self.share),
            "verdict": self.verdict,
        }


def measured(rows: Any, where: str) -> list[Measured]:
    """The rows of an evaluation's JSON. Raises SurdError."""
    try:
        return [_measured(row) for row in rows]
    except (TypeError, KeyError, AttributeError) as error:
        raise SurdError(f"{where}: not what surd evaluate writes; run it again") from error


def _measured(row: Mapping[str, Any]) -> Measured:
    estimates = {name: Estimate(**row[name]) for name in ("base", "adapter", "difference")}
    return Measured(**{**row, **estimates})


def interval_spec(
    rows: Sequence[Mapping[str, Any]],
    title: str,
    unit: str,
    *,
    domain: Sequence[float] | None = None,
    options: Sequence[str] = (),
) -> dict[str, Any]:
    """A plot of points (`Measured.point`), a row a label; intervals that hold zero have a ring.

    `domain` is the range of the axis. With `options` the reader chooses which rows are seen, by
    their ``option``.
    """
    import altair as alt

    order = list(dict.fromkeys(row["label"] for row in rows))
    y = alt.Y("label:N", sort=order, title=None, axis=alt.Axis(labelLimit=150, ticks=False))
    told = [
        alt.Tooltip("label:N", title="of"),
        alt.Tooltip("told:N", title="difference"),
        alt.Tooltip("verdict:N"),
    ]
    found = plot(rows)
    if options:
        choice = alt.param(
            name="measure", value=options[0],
            bind=alt.binding_select(options=list(options), name="measure "),
        )  # fmt: skip
        found = found.transform_filter("datum.option == measure").add_params(choice)
    within = alt.value("var(--page)")
    fill = alt.condition("datum.low > 0 || datum.high < 0", alt.value("var(--accent)"), within)
    scale = alt.Scale(domain=domain) if domain else alt.Undefined
    x = alt.X("value:Q", title=unit, scale=scale, axis=alt.Axis(tickCount=6))
    lines = found.mark_bar(height=2.5, opacity=0.55).encode(alt.X("low:Q"), alt.X2("high:Q"), y)
    dots = found.encode(x, y, fill=fill, tooltip=told)
    zero = plot([{"zero": 0}]).mark_rule(strokeDash=[4, 3], opacity=0.6)
    layers = [
        zero.encode(alt.X("zero:Q")),
        lines,
        dots.mark_point(size=80, strokeWidth=2, opacity=1),
    ]
    spec: dict[str, Any] = (
        alt.layer(*layers)
        .properties(width="container", height=_ROW_PX * len(order), title=title)
        .to_dict()
    )
    return spec
