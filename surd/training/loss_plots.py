"""Loss curves: a plot for each term, every step faint behind the moving mean."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from surd.pages.plot import HEIGHT_PX, plot
from surd.training.logs import Line, finite, names_in

RATE = "learning_rate"
_DRAWN = 400
"""Points of a line, at most."""
_WINDOWS = 40
"""The moving mean is over this part of the steps."""
_LOG_FROM = 20.0
"""Highest over lowest mean from which a scale is logarithmic."""
_STILL_WIDTH_PX, _STILL_HEIGHT_PX = 600, 150

Points = npt.NDArray[np.float64]
"""``[n, 2]``: step and value."""


def loss_points(lines: Sequence[Line]) -> dict[str, Points]:
    """Each term's finite values, of a diverged one none; the learning rate is the last."""
    names = sorted(names_in(lines), key=lambda name: name == RATE)
    return {name: np.array(finite(lines, name)).reshape(-1, 2) for name in names}


def loss_plot(name: str, points: Points, steps: Sequence[float], *, still: bool = False) -> Any:
    """An altair plot of a term over the steps from first to last; `still` where nothing hovers."""
    import altair as alt

    means = points if name == RATE else moving_mean(points, window(len(points)))
    lowest, highest = means[:, 1].min(), means[:, 1].max()
    log = name != RATE and points[:, 1].min() > 0 and highest > _LOG_FROM * lowest
    across = alt.Scale(domain=list(steps), nice=False)
    up = alt.Scale(type="log") if log else alt.Scale(zero=name == RATE)
    x = alt.X("step:Q", axis=alt.Axis(tickCount=6, format="~s"), scale=across)
    form = "~e" if name == RATE else alt.Undefined
    y = alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=5, format=form), scale=up)
    told = [alt.Tooltip("step:Q", format=","), alt.Tooltip("value:Q", title=name, format=".4~g")]

    def line(shown: Points, **look: Any) -> Any:
        rows = [{"step": int(step), "value": float(f"{value:.5g}")} for step, value in shown]
        return plot(rows).mark_line(**look).encode(x, y)

    strong = line(thinned(means))
    layers = [strong]
    if not still:
        layers.append(strong.mark_point(opacity=0, size=120).encode(x, y, tooltip=told))
    if name != RATE:
        layers.insert(0, line(thinned(points), opacity=0.28, strokeWidth=1))
    width, height = (_STILL_WIDTH_PX, _STILL_HEIGHT_PX) if still else ("container", HEIGHT_PX)
    return alt.layer(*layers).properties(width=width, height=height, title=name.replace("_", " "))


def loss_svg(lines: Sequence[Line]) -> str:
    """All plots below each other, as an image."""
    import altair as alt
    import vl_convert

    steps = [lines[0]["step"], lines[-1]["step"]]
    plots = [
        loss_plot(name, points, steps, still=True)
        for name, points in loss_points(lines).items()
        if len(points)
    ]
    svg: str = vl_convert.vegalite_to_svg(alt.vconcat(*plots).to_dict())
    return svg


def window(steps: int) -> int:
    """How many steps the moving mean is over."""
    return max(1, steps // _WINDOWS)


def moving_mean(points: Points, window: int) -> Points:
    """The mean of about `window` values around each, of fewer at the ends."""
    before, after = (window - 1) // 2, window // 2
    sums = np.concatenate([[0.0], np.cumsum(points[:, 1])])
    places = np.arange(len(points))
    first = np.maximum(places - before, 0)
    last = np.minimum(places + after + 1, len(points))
    return np.stack([points[:, 0], (sums[last] - sums[first]) / (last - first)], axis=1)


def thinned(points: Points) -> Points:
    """Few enough points that look the same: of each stretch the lowest and the highest."""
    if len(points) <= _DRAWN:
        return points
    stretches = np.array_split(np.arange(len(points)), _DRAWN // 2)
    kept = {0, len(points) - 1}
    for places in stretches:
        values = points[places, 1]
        kept |= {int(places[values.argmin()]), int(places[values.argmax()])}
    return points[sorted(kept)]
