"""Loss curves: a plot for each term, every step faint behind the moving mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from surd.report.page import Chart, Section, body
from surd.report.runs.plot import plot
from surd.report.runs.read import Run, anchor, finite, names_in

RATE = "learning_rate"
_ABOUT = {
    "loss": "What is minimised: the terms, each times its weight",
    "denoising": "Squared error of what the UNet predicts from the adapter's text embeddings",
    "attention": "How differently the UNet's cross-attention layers answer to the adapter's text "
    "embeddings and to the complex prompt's, over the answers' variance",
    "llm": "Distance of the adapter's features from the language model's vector",
    "prompt": "Distance of the adapter's text embeddings from the complex prompt's",
    RATE: "Of the optimizer",
}
_DRAWN = 400
"""Points of a line, at most."""
_WINDOWS = 40
"""The moving mean is over this part of the steps."""
_LOG_FROM = 20.0
"""Highest over lowest mean from which a scale is logarithmic."""

Points = npt.NDArray[np.float64]
"""``[n, 2]``: step and value."""


def losses_section(run: Run) -> Section | None:
    """Each term of the loss, and the learning rate below; None where nothing was logged."""
    names = names_in(run.losses)
    found = {name: np.array(finite(run.losses, name)).reshape(-1, 2) for name in names}
    drawn = {name: points for name, points in found.items() if len(points)}
    if not drawn:
        return None
    steps = [run.losses[0]["step"], run.losses[-1]["step"]]
    order = sorted(drawn, key=lambda name: name == RATE)  # the rate is the last
    charts = tuple(_chart(run, name, drawn[name], steps) for name in order)
    text = body(
        "runs/losses.html.j2",
        charts=charts,
        window=_window(len(run.losses)),
        diverged={name: len(run.losses) - len(points) for name, points in found.items()},
    )
    return Section(f"{run.id}-losses", "Losses", text, charts)


def _chart(run: Run, name: str, points: Points, steps: list[float]) -> Chart:
    weight = run.settings.get(f"{name}_weight")
    weighed = "" if weight is None else f"; weight {weight:g}"
    label = f"{_ABOUT.get(name, 'As logged')}{weighed}."
    means = points if name == RATE else moving_mean(points, _window(len(points)))
    return Chart(anchor(run.id, "loss", name), _spec(name, points, means, steps), label)


def _spec(name: str, points: Points, means: Points, steps: list[float]) -> Mapping[str, Any]:
    import altair as alt

    lowest, highest = means[:, 1].min(), means[:, 1].max()
    log = name != RATE and points[:, 1].min() > 0 and highest > _LOG_FROM * lowest
    across = alt.Scale(domain=steps, nice=False)
    up = alt.Scale(type="log") if log else alt.Scale(zero=name == RATE)
    x = alt.X("step:Q", axis=alt.Axis(tickCount=6, format="~s"), scale=across)
    form = "~e" if name == RATE else alt.Undefined
    y = alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=5, format=form), scale=up)
    told = [alt.Tooltip("step:Q", format=","), alt.Tooltip("value:Q", title=name, format=".4~g")]

    def line(shown: Points, **look: Any) -> Any:
        rows = [{"step": int(step), "value": float(f"{value:.5g}")} for step, value in shown]
        return plot(rows).mark_line(**look).encode(x, y)

    strong = line(thinned(means))
    layers = [strong, strong.mark_point(opacity=0, size=120).encode(x, y, tooltip=told)]
    if name != RATE:
        layers.insert(0, line(thinned(points), opacity=0.28, strokeWidth=1))
    spec: Mapping[str, Any] = (
        alt.layer(*layers)
        .properties(width="container", height=150, title=name.replace("_", " "))
        .to_dict()
    )
    return spec


def _window(steps: int) -> int:
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
