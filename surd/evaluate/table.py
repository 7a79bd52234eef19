"""An evaluation as a table in Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from surd.evaluate.significance import Estimate

if TYPE_CHECKING:  # it loads torch
    from surd.evaluate.measures import Row


def table_of(rows: Sequence[Row]) -> str:
    """Each measure without and with the adapter, what that changes, and how sure that is."""
    lines = [
        "| prompts | measure | pictures | base | adapter | difference (95% interval) | p |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        share = row.p is not None
        lines.append(
            f"| {row.prompts} | {row.measure}{' (lower is better)' if row.lower_is_better else ''} "
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
    if share:
        low, high = 100 * estimate.low, 100 * estimate.high
        return f"{100 * estimate.value:+.1f} ({low:+.1f} to {high:+.1f})"
    return f"{estimate.value:+.3g} ({estimate.low:+.3g} to {estimate.high:+.3g})"
