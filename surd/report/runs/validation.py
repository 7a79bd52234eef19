"""What was drawn while the adapter learned: the same prompts and seeds, step after step."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surd.pages.text import visible
from surd.report.page import Chart, Section, body
from surd.report.runs.plot import plot
from surd.report.runs.read import Run, anchor, finite, names_in
from surd.report.thumbnails import thumbnail

_ROWS, _COLUMNS = 8, 7
_SIDE_PX = 160
_COUNTED = "pictures"
_CLIP = "clip score"


@dataclass(frozen=True)
class Row:
    """A prompt's pictures."""

    prompt: str
    pictures: Sequence[str | None]
    """A data URI a step; None where there is no picture."""


def validation_section(run: Run) -> Section | None:
    """Scores and pictures over time; None where nothing was drawn."""
    steps, rows = _pictures(run.folder / "validation")
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
    return Section(f"{run.id}-validation", "While it learned", text, charts)


def _pictures(folder: Path) -> tuple[list[str], list[Row]]:
    """The steps, of many the first, the last and some between; and the first prompts."""
    places = [path for path in (folder / "base", *sorted(folder.glob("step-*"))) if path.is_dir()]
    chosen = some(places, _COLUMNS)
    rows = []
    for number, prompt in enumerate(_prompts(folder / "prompts.json")[:_ROWS]):
        cells = [_cell(place / f"{number:03d}-0.png") for place in chosen]
        if any(cells):
            rows.append(Row(visible(prompt) or "", cells))
    return [_step(place) for place in chosen], rows


def _prompts(path: Path) -> list[str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    return [text for text in found if isinstance(text, str)] if isinstance(found, list) else []


def _cell(path: Path) -> str | None:
    return thumbnail(path.read_bytes(), _SIDE_PX) if path.is_file() else None


def _step(place: Path) -> str:
    number = place.name.removeprefix("step-")
    return f"step {int(number):,}" if number.isdecimal() else "without"


def some(places: Sequence[Path], count: int) -> list[Path]:
    """The first, the last and some between, evenly."""
    if len(places) <= count:
        return list(places)
    return [places[round(i * (len(places) - 1) / (count - 1))] for i in range(count)]


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
        width="container", height=200, title=title
    ).to_dict()
    return spec
