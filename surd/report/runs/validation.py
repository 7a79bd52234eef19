"""What was drawn while the adapter learned: the same prompts and seeds, step after step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from surd.pages.plot import HEIGHT_PX, plot
from surd.pages.text import visible
from surd.report.page import Chart, Section, body, thumbnail
from surd.report.runs.read import Run, anchor
from surd.training.logs import finite, names_in, pictures_over_time

_ROWS, _COLUMNS = 8, 7
_SIDE_PX = 160
_COUNTED = "pictures"
_CLIP = "clip score"


def validation_section(run: Run) -> Section | None:
    """Scores and pictures over time; None where nothing was drawn."""
    steps, drawn = pictures_over_time(run.folder, _ROWS, _COLUMNS)
    rows = [
        (visible(prompt), [path and thumbnail(path.read_bytes(), _SIDE_PX) for path in paths])
        for prompt, paths in drawn
    ]
    names = [name for name in names_in(run.scores) if name != _COUNTED]
    charts = tuple(_score_charts(run, names))
    if not rows and not charts:
        return None
    count = run.scores[-1].get(_COUNTED) if run.scores else None
    text = body(
        "runs/validation.html.j2",
        steps=steps,
        rows=rows,
        charts=charts,
        names=names,
        scores=run.scores,
        count=count,
    )
    return Section(f"{run.id}-validation", "Validation during training", text, charts)


def _score_charts(run: Run, names: Sequence[str]) -> list[Chart]:
    """Shares of right pictures in one plot, for they have one scale; CLIP's score in its own."""
    shares = [name for name in names if name != _CLIP]
    groups = [("pictures that show what was asked", shares, "%", [0, 1])]
    if _CLIP in names:
        groups.append((_CLIP, [_CLIP], ".3f", []))
    return [
        Chart(anchor(run.id, "over-time", title), _spec(run, title, group, form, domain))
        for title, group, form, domain in groups
        if any(len(finite(run.scores, name)) > 1 for name in group)
    ]


def _spec(
    run: Run, title: str, names: Sequence[str], form: str, domain: Sequence[float]
) -> Mapping[str, Any]:
    import altair as alt

    base = plot(
        [
            {"step": step, "measure": visible(name, 60), "value": round(value, 5)}
            for name in names
            for step, value in finite(run.scores, name)
        ]
    )
    scale = alt.Scale(domain=domain) if domain else alt.Scale(zero=False)
    lines = base.encode(
        alt.X("step:Q", axis=alt.Axis(format="~s"), scale=alt.Scale(nice=False)),
        alt.Y("value:Q", title=None, scale=scale, axis=alt.Axis(format=form, tickCount=5)),
        tooltip=[
            alt.Tooltip("measure:N"),
            alt.Tooltip("step:Q", format=","),
            alt.Tooltip("value:Q", format=form),
        ],
    )
    if len(names) > 1:
        legend = alt.Legend(title=None, orient="bottom", columns=3)
        lines = lines.encode(alt.Color("measure:N", sort=None, legend=legend))
    layers = lines.mark_line(opacity=0.8) + lines.mark_point(filled=True, size=40, opacity=1)
    spec: Mapping[str, Any] = layers.properties(
        width="container", height=HEIGHT_PX, title=title
    ).to_dict()
    return spec
