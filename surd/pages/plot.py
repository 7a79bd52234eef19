"""Plots with their data inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

HEIGHT_PX = 220
"""Of a plot with its title, axes and legend, so that plots beside each other end alike."""


def plot(rows: Sequence[Mapping[str, Any]]) -> Any:
    """An altair.Chart of rows, to be told how it looks."""
    import altair as alt

    return alt.Chart(alt.Data(values=[dict(row) for row in rows]))  # type: ignore[no-untyped-call]
