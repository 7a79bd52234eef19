"""What an adapter is worth: each measure with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pydantic import TypeAdapter, ValidationError

from surd.errors import SurdError
from surd.evaluate.results import Row, few_scenes, interval, shown
from surd.models.names import public_name
from surd.pages.plot import plot
from surd.pages.text import visible
from surd.report.page import Chart, Section, body
from surd.report.runs.read import Run, anchor, read_json

_EVALUATION = "evaluation.json"
_DEMO = "demo:"
"""Before the names of sets whose pictures are judged exactly."""
_MAX, _MAX_CHARS = 1e15, 200
_ROW_PX = 28
_FRAME_PX = 75
"""Of a plot's title and axis."""


def evaluation_section(run: Run) -> Section | None:
    """None where the run was not evaluated. Raises SurdError for a broken file."""
    path = run.folder / _EVALUATION
    found = read_json(path)
    if found is None:
        return None
    rows = rows_of(found.get("rows"), str(path))
    if not rows:
        return None
    sets = list(dict.fromkeys(row.prompts for row in rows))
    charts = tuple(_charts(run, rows, sets))
    text = body(
        "runs/evaluation.html.j2",
        how={name: _number(found.get(name)) for name in ("seeds", "limit", "steps", "guidance")},
        sets={name: [row for row in rows if row.prompts == name] for name in sets},
        charts=charts,
        judge=_judge(found, sets),
        few=visible(few_scenes(rows), 400),
        shown=shown,
        interval=interval,
    )
    return Section(f"{run.id}-evaluation", "Evaluation", text, charts)


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and abs(value) <= _MAX else None


def _judge(how: Mapping[str, Any], sets: Sequence[str]) -> str:
    asked = [name for name in sets if not name.startswith(_DEMO)]
    by_sight = "Image analysis judges the demo's pictures." if len(asked) < len(sets) else ""
    model = public_name(str(how.get("vqa", "a model")))
    by_model = f"{', '.join(asked)}: judged by the answers of {model}." if asked else ""
    return visible(f"{by_sight} {by_model}".strip(), 400) or ""


def _charts(run: Run, rows: Sequence[Row], sets: Sequence[str]) -> Iterator[Chart]:
    """Shares have a plot for each set of prompts, other measures one each."""
    shares = {
        name: [point(row, row.label) for row in rows if row.is_share and row.prompts == name]
        for name in sets
    }
    several = [one for points in shares.values() for one in points]
    ends = [one[end] for one in several for end in ("value", "low", "high") if one[end] is not None]
    domain = [min(0.0, *ends), max(0.0, *ends)] if ends else None  # one scale for all sets
    for name, points in shares.items():
        if points:
            unit = "more pictures right, percentage points"
            spec = interval_spec(points, name, unit, domain=domain)
            yield Chart(anchor(run.id, "shares", name), spec)
    for label in dict.fromkeys(row.label for row in rows if not row.is_share):
        points = [
            point(row, row.prompts) for row in rows if row.label == label and not row.is_share
        ]
        yield Chart(anchor(run.id, "score", label), interval_spec(points, label, "difference"))


def point(row: Row, label: str) -> dict[str, Any]:
    """A row for a plot: the difference, of shares in percentage points, and its interval."""
    scale = 100 if row.is_share else 1
    ends = {name: getattr(row.difference, name) for name in ("value", "low", "high")}
    return {
        "label": label,
        **{
            name: None if value is None else float(f"{scale * value:.5g}")
            for name, value in ends.items()
        },
        "told": interval(row.difference, row.is_share),
        "verdict": row.verdict,
    }


def rows_of(rows: Any, where: str) -> list[Row]:
    """The rows of an evaluation's JSON. Raises SurdError."""
    if isinstance(rows, list):
        rows = [
            {"is_share": row.get("p") is not None, **row} if isinstance(row, dict) else row
            for row in rows  # only shares once had a p
        ]
    found: list[Row] = checked(list[Row], rows, where, "surd evaluate")
    return found


def checked(type_: Any, value: Any, where: str, command: str) -> Any:
    """JSON as the dataclasses that a command wrote, with no text or number beyond what a page can
    show. Raises SurdError."""
    try:
        return TypeAdapter(type_).validate_python(_shown(value))
    except ValidationError as error:
        raise SurdError(f"{where}: not written by {command}; run it again") from error


def _shown(value: Any) -> Any:
    if isinstance(value, dict):
        return {visible(name, _MAX_CHARS): _shown(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_shown(inner) for inner in value]
    if isinstance(value, str):
        return visible(value, _MAX_CHARS)
    is_huge = isinstance(value, int | float) and abs(value) > _MAX
    return None if is_huge else value


def interval_spec(
    rows: Sequence[Mapping[str, Any]],
    title: str,
    unit: str,
    *,
    domain: Sequence[float] | None = None,
    options: Sequence[str] = (),
) -> dict[str, Any]:
    """A plot of points (:func:`point`), a row a label; a ring where nothing can be concluded.

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
    sure = "datum.verdict == 'better' || datum.verdict == 'worse'"
    fill = alt.condition(sure, alt.value("var(--accent)"), within)
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
        .properties(width="container", height=_FRAME_PX + _ROW_PX * len(order), title=title)
        .to_dict()
    )
    return spec
