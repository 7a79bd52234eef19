"""What an adapter is worth: each measure with its interval."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from surd.evaluate.table import interval, shown
from surd.models.names import public_name
from surd.pages.text import visible
from surd.report.page import Chart, Section, body
from surd.report.runs.intervals import Measured, interval_spec, measured
from surd.report.runs.read import Run, anchor, read_json

_EVALUATION = "evaluation.json"
_DEMO = "demo:"
"""Before the names of sets whose pictures are judged exactly."""


def evaluation_section(run: Run) -> Section | None:
    """None where the run was not evaluated. Raises SurdError for a broken file."""
    path = run.folder / _EVALUATION
    found = read_json(path)
    if found is None:
        return None
    rows = measured(found.get("rows"), str(path))
    if not rows:
        return None
    sets = list(dict.fromkeys(row.prompts for row in rows))
    charts = tuple(_charts(run, rows, sets))
    text = body(
        "runs/evaluation.html.j2",
        how={name: found.get(name) for name in ("seeds", "limit", "steps", "guidance")},
        sets={name: [row for row in rows if row.prompts == name] for name in sets},
        charts=charts,
        judge=_judge(found, sets),
        shown=shown,
        interval=interval,
    )
    return Section(f"{run.id}-evaluation", "What it is worth", text, charts)


def _judge(how: Mapping[str, Any], sets: Sequence[str]) -> str:
    asked = [name for name in sets if not name.startswith(_DEMO)]
    by_sight = "The demo's pictures are judged by image analysis." if len(asked) < len(sets) else ""
    model = public_name(str(how.get("vqa", "a model")))
    by_model = f"{', '.join(asked)}: judged by the answers of {model}." if asked else ""
    return visible(f"{by_sight} {by_model}".strip(), 400) or ""


def _charts(run: Run, rows: Sequence[Measured], sets: Sequence[str]) -> Iterator[Chart]:
    """Shares have a plot for each set of prompts, other measures one each."""
    shares = {
        name: [row.point(row.label) for row in rows if row.share and row.prompts == name]
        for name in sets
    }
    ends = [point[end] for points in shares.values() for point in points for end in ("low", "high")]
    domain = [min(0.0, *ends), max(0.0, *ends)] if ends else None  # one scale for all sets
    for name, points in shares.items():
        if points:
            unit = "more pictures right, percentage points"
            spec = interval_spec(points, name, unit, domain=domain)
            yield Chart(anchor(run.id, "shares", name), spec)
    for label in dict.fromkeys(row.label for row in rows if not row.share):
        points = [row.point(row.prompts) for row in rows if row.label == label and not row.share]
        yield Chart(anchor(run.id, "score", label), interval_spec(points, label, "difference"))
