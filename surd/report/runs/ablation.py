"""Adapters that differ in a few settings, measured alike."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from surd.evaluate.results import Row, interval, shown
from surd.evaluate.significance import Estimate
from surd.pages.text import visible
from surd.report.page import Chart, Section, body
from surd.report.runs.evaluation import checked, interval_spec, point, rows_of
from surd.report.runs.read import anchor, read_json

_ABLATION = "ablation.json"
_ID = "ablation"
_COMMAND = "surd ablate"


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
    difference: Estimate
    is_share: bool
    p: float | None

    @property
    def told(self) -> str:
        """The difference with its interval."""
        return interval(self.difference, self.is_share)


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
    differences = found.get("differences", [])
    text = body(
        "runs/ablation.html.j2",
        variants=variants,
        differences=checked(list[Difference], differences, str(path), _COMMAND),
        sets=list(zip(sets, charts, strict=True)),
        shown=shown,
        interval=interval,
    )
    return Section(_ID, "Adapters compared", text, charts)


@dataclass(frozen=True)
class _Written:
    """A variant as ``ablation.json`` has it."""

    name: str
    settings: Mapping[str, Any]
    rows: list[Any]
    trainings: Mapping[str, list[Any]] = field(default_factory=dict)


def _variants(found: Any, where: str) -> list[Variant]:
    return [
        Variant(
            one.name,
            _told(one.settings),
            rows_of(one.rows, where),
            [rows_of(rows, where) for rows in one.trainings.values()],
        )
        for one in checked(list[_Written], found, where, _COMMAND)
    ]


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
