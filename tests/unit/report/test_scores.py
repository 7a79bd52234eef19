"""Counts of what a threshold would keep agree with the filter, to the sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support_publish import make_workspace
from support_report import RECIPE, judged_workspace, rows, shown_workspace

from surd.build.verdicts import compute, funnel
from surd.cli.running import run_stage
from surd.report.dataset.scores import SCORES, bin_of
from surd.report.dataset.sections import sections
from surd.stages.filter.params import FilterParams
from surd.store.workspace import Workspace

BY_NAME = {score.name: score for score in SCORES}


def test_a_value_on_an_edge_counts_as_the_filter_counts_it() -> None:
    cosine, nsfw = BY_NAME["cos_simple"], BY_NAME["nsfw"]
    values = np.array([0.8699, 0.87, 0.87005], np.float32)
    assert (bin_of(cosine, values) >= 18_700).tolist() == [False, True, True]
    assert (bin_of(nsfw, np.array([0.5, 0.5004], np.float32)) < 500).tolist() == [True, False]


@pytest.mark.parametrize("value", [-3.0, 3.0])
def test_what_lies_outside_counts_for_the_nearest_bin(value: float) -> None:
    score = BY_NAME["cos_simple"]
    assert bin_of(score, np.array([value], np.float32))[0] == (0 if value < 0 else 19_999)


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workspace, dict[str, Any]]:
    """A workspace with verdicts, and what the page says of its scores, by name. Duplicates are
    allowed: among them, one that goes makes room for another."""
    workspace = shown_workspace(tmp_path_factory.mktemp("judged") / "w", 60)
    allowed = ["filter.duplicates=[]"]
    run_stage(workspace.location, "filter", allowed, None, quiet=True)
    _, data = sections(workspace)
    return workspace, {score["name"]: score for score in data["scores"]}


def stay(score: dict[str, Any], cut: int) -> int:
    """As the page's script counts it, with the slider at ``cut``."""
    counts = score["open"][:cut] if score["keeps_low"] else score["open"][cut:]
    return sum(counts) + score["always"]


@pytest.mark.parametrize(
    ("reason", "name", "threshold"),
    [
        ("clip_threshold", "cos_simple", 0.25),
        ("clip_threshold", "cos_simple", 0.2871),
        ("complex_threshold", "cos_complex", 0.26),
        ("min_margin", "margin", -0.0123),
        ("max_nsfw", "nsfw", 0.5),
    ],
)
def test_the_sliders_count_is_that_of_the_filter_at_every_threshold(
    judged: tuple[Workspace, dict[str, Any]], reason: str, name: str, threshold: float
) -> None:
    workspace, scores = judged
    score = scores[name]
    cut = max(0, round((threshold - score["start"]) / score["step"]))
    params = FilterParams(**RECIPE["filter"] | {"duplicates": (), reason: threshold})
    assert stay(score, cut) == funnel(compute(workspace, params, {})).kept


def test_the_slider_begins_at_the_threshold_in_force_and_all_stay_where_there_is_none(
    judged: tuple[Workspace, dict[str, Any]],
) -> None:
    workspace, scores = judged
    kept = funnel([workspace.read("verdicts", part) for part in (0, 1)]).kept
    assert kept > 0
    for score in scores.values():
        assert stay(score, score["index"]) == kept
    assert scores["cos_simple"]["threshold"] == 0.25
    assert scores["cos_complex"]["threshold"] is None


def test_how_auto_came_to_its_threshold_stands_beside_it(tmp_path: Path) -> None:
    workspace = judged_workspace(tmp_path / "w", 60, "filter.complex_threshold=auto")
    made, data = sections(workspace)
    score = next(score for score in data["scores"] if score["name"] == "cos_complex")
    why = "too few scores to look for two peaks"
    assert score["why"] == f"auto: drops at most the lowest tenth, since {why}"
    told = {one.id: one.body for one in made}
    assert score["why"] in told["funnel"] and score["why"] in told["scores"]
    assert score["threshold"] is not None


def test_what_is_kept_by_hand_stays_at_any_threshold(tmp_path: Path) -> None:
    made = rows(4)
    low = [{"reason": "clip_threshold", "value": 0.1, "threshold": 0.25, "detail": None}]
    by_hand = {"reason": "manual", "value": None, "threshold": None, "detail": "keep"}
    for row in made:
        row |= {"keep": True, "reasons": []}
    made[0] |= {"cos_simple": 0.1, "reasons": [*low, by_hand]}
    make_workspace(tmp_path / "w", [made], recipe=RECIPE)
    _, data = sections(Workspace(tmp_path / "w"))
    score = next(score for score in data["scores"] if score["name"] == "cos_simple")
    assert score["always"] == 2  # and the one whose image is missing has no score
    assert sum(score["open"]) == 2
