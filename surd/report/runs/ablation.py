"""Adapters that differ in a few settings, measured alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surd.errors import SurdError
from surd.evaluate.results import Row, interval, shown
from surd.evaluate.significance import Estimate
from surd.pages.text import visible
from surd.report.page import Chart, Section, body
from surd.report.runs.evaluation import interval_spec, point, rows_of
from surd.report.runs.read import anchor, read_json

_ABLATION = "ablation.json"
_ID = "ablation"


@dataclass(frozen=True)
class Variant:
    """An adapter, what is its own, and its measures."""

    name: str
    settings: str
    rows: Sequence[Row]
    """Of all its trainings together."""
    trainings: Sequence[Sequence[Row]]

    def of(self, prompts: str) -> list[Row]:
        """The measures on one set of prompts."""
        return [row for row in self.rows if row.prompts == prompts]

    def spread(self, row: Row) -> str:
        """The least and the largest value of a training in a row; empty for a single one."""
        values = [
            one.adapter.value
            for rows in self.trainings
            for one in rows
            if (one.prompts, one.measure) == (row.prompts, row.measure)
        ]
        if len(values) < 2:
            return ""
        return f"{shown(min(values), row.is_share)} to {shown(max(values), row.is_share)}"


@dataclass(frozen=True)
class Difference:
    """Of two adapters, on the same prompts and noise."""

    prompts: str
    measure: str
    adapter: str
    compared_with: str
    told: str
    p: float | None


def ablation_section(folder: Path) -> Section | None:
    """Of a folder with ``ablation.json``; None of any other. Raises SurdError."""
    path = folder / _ABLATION
    found = read_json(path)
    if found is None:
        return None
    variants = _variants(found.get("variants"), str(path))
    if not variants:
        return None
    sets = list(dict.fromkeys(row.prompts for row in variants[0].rows))
    charts = tuple(_chart(variants, name) for name in sets)
    text = body(
        "runs/ablation.html.j2",
        variants=variants,
        differences=_differences(found.get("differences", ()), str(path)),
        sets=list(zip(sets, charts, strict=True)),
        shown=shown,
        interval=interval,
    )
    return Section(_ID, "Adapters compared", text, charts)


def _variants(found: Any, where: str) -> list[Variant]:
    try:
        return [
            Variant(
                visible(one["name"], 80) or "",
                _told(one["settings"]),
                rows_of(one["rows"], where),
                [rows_of(rows, where) for rows in one.get("trainings", {}).values()],
            )
            for one in found
        ]
    except (TypeError, KeyError, AttributeError) as error:
        raise SurdError(f"{where}: not written by surd ablate; run it again") from error


def _differences(found: Any, where: str) -> list[Difference]:
    try:
        return [
            Difference(
                one["prompts"],
                visible(one["measure"], 80) or "",
                visible(one["adapter"], 80) or "",
                visible(one["compared_with"], 80) or "",
                interval(Estimate(**one["difference"]), one["is_share"]),
                one["p"],
            )
            for one in found
        ]
    except (TypeError, KeyError) as error:
        raise SurdError(f"{where}: not written by surd ablate; run it again") from error


def _told(settings: Mapping[str, Any]) -> str:
    told = (f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items())
    return visible(", ".join(told), 400) or ""


def _chart(variants: Sequence[Variant], prompts: str) -> Chart:
    """A row an adapter; the reader chooses the measure."""
    points = [
        point(row, one.name) | {"option": _option(row)}
        for one in variants
        for row in one.of(prompts)
    ]
    options = list(dict.fromkeys(each["option"] for each in points))
    return Chart(
        anchor(_ID, prompts),
        interval_spec(points, prompts, "difference from no adapter", options=options),
    )


def _option(row: Row) -> str:
    return f"{row.label}, percentage points" if row.is_share else row.label
