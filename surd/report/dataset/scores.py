"""Scores and their thresholds: what would stay, counted over all rows while a slider moves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from surd.pages.plot import HEIGHT_PX, plot
from surd.report.dataset.axes import axis_range, beyond
from surd.report.dataset.samples import Choice
from surd.report.page import Chart, Section, body


@dataclass(frozen=True)
class Score:
    """A number that a filter looks at."""

    name: str
    label: str
    """In a few words."""
    title: str
    reason: str
    """What the filter calls its threshold."""
    low: float
    high: float
    step: float
    coarse: float
    """Samples to show are chosen from bins of this width, so that rare values have some too."""
    keeps_low: bool = False


SCORES = (
    Score(
        "cos_simple", "simple prompt", "cosine(image, simple prompt)",
        "clip_threshold", -1, 1, 1e-4, 0.02,
    ),
    Score(
        "cos_complex", "complex prompt", "cosine(image, complex prompt)",
        "complex_threshold", -1, 1, 1e-4, 0.02,
    ),
    Score(
        "margin", "difference", "cosine(simple) minus cosine(complex)",
        "min_margin", -1, 1, 1e-4, 0.02,
    ),
    Score("itm", "matching", "image-text matching, by BLIP", "min_itm", 0, 1, 1e-3, 0.05),
    Score("aesthetic", "aesthetic", "aesthetic score", "min_aesthetic", -10, 20, 1e-2, 0.25),
    Score("nsfw", "NSFW", "NSFW score of the image model", "max_nsfw", 0, 1, 1e-3, 0.05, True),
)  # fmt: skip
_A_BIN, _A_SCORE = 16, 120
_BARS = 80


class ScoreCounts:
    """Of each score a fine histogram of all rows, and of those that nothing else drops.

    So the count of what would stay at any threshold is exact, on multiples of the score's step,
    except where a sample that goes makes room for another: among duplicates and within caps.
    """

    def __init__(self) -> None:
        self.all = {s.name: np.zeros(_bins(s), np.int64) for s in SCORES}
        self.open = {s.name: np.zeros(_bins(s), np.int64) for s in SCORES}
        self.kept_always: dict[str, int] = {s.name: 0 for s in SCORES}
        """Rows that no threshold drops: kept by hand, or kept and without such a score."""

    def add(self, part: int, rows: pa.Table, order: npt.NDArray[np.uint64], choice: Choice) -> None:
        """Count a part's rows, and choose samples over the whole range of each score."""
        columns = _values(rows)
        for score in SCORES:
            values = columns[score.name]
            there = np.flatnonzero(~np.isnan(values))
            open_ = _nothing_else(rows, score.reason)
            always = _kept_by_hand(rows) | (open_ & np.isnan(values))
            self.kept_always[score.name] += int(always.sum())
            if not len(there):
                continue
            bins = bin_of(score, values[there])
            self.all[score.name] += np.bincount(bins, minlength=_bins(score))
            chosen = bins[open_[there]]
            self.open[score.name] += np.bincount(chosen, minlength=_bins(score))
            coarse = np.floor(values[there] / score.coarse).astype(int)
            for one in np.unique(coarse):
                name = ("score", score.name, int(one))
                choice.offer(name, _A_BIN, part, order, there[coarse == one])


def places(choice: Choice) -> list[tuple[int, int]]:
    """The samples chosen for the galleries, thinned where a score spans many bins."""
    found = []
    for score in SCORES:
        names = [
            n for n in choice.names() if isinstance(n, tuple) and n[:2] == ("score", score.name)
        ]
        each = max(1, min(_A_BIN, _A_SCORE // max(1, len(names))))
        for name in sorted(names, key=str):
            found += choice.places(name)[:each]
    return found


def _bins(score: Score) -> int:
    return round((score.high - score.low) / score.step)


def _edges(score: Score) -> npt.NDArray[np.float32]:
    """The bins' edges as the filter sees a threshold: the float32 nearest to the decimal."""
    return np.round(np.linspace(score.low, score.high, _bins(score) + 1), 4).astype(np.float32)


def bin_of(score: Score, values: npt.NDArray[np.float32]) -> npt.NDArray[np.intp]:
    """The bin of each value; what lies outside counts for the nearest.

    The filter keeps what is at a threshold, so an edge belongs to the bin above it, or below it
    where low values are kept.
    """
    side: Literal["left", "right"] = "left" if score.keeps_low else "right"
    bins: npt.NDArray[np.intp] = np.searchsorted(_edges(score), values, side) - 1
    return np.clip(bins, 0, _bins(score) - 1)


def _values(rows: pa.Table) -> dict[str, npt.NDArray[np.float32]]:
    names = [score.name for score in SCORES if score.name != "margin"]
    found = {name: rows[name].cast(pa.float32()).to_numpy() for name in names}
    return found | {"margin": found["cos_simple"] - found["cos_complex"]}


def _kept_by_hand(rows: pa.Table) -> npt.NDArray[np.bool_]:
    kept = pc.and_(rows["keep"], pc.greater(pc.list_value_length(rows["reasons"]), 0))
    found: npt.NDArray[np.bool_] = pc.fill_null(kept, False).to_numpy()
    return found


def _nothing_else(rows: pa.Table, reason: str) -> npt.NDArray[np.bool_]:
    """Which rows are kept, or dropped for this reason alone; all before there are verdicts."""
    reasons = rows["reasons"].combine_chunks()
    if reasons.null_count == len(reasons):
        return np.ones(len(reasons), bool)
    here = pc.equal(reasons.flatten().field("reason"), reason).to_numpy(zero_copy_only=False)
    parents = pc.list_parent_indices(reasons).to_numpy()
    others = np.zeros(len(reasons), bool)
    others[parents[~here]] = True
    others[reasons.is_null().to_numpy(zero_copy_only=False)] = True  # not judged yet
    return ~others & ~_kept_by_hand(rows)


def section(
    found: ScoreCounts,
    thresholds: Mapping[str, float | None],
    whys: Mapping[str, str],
    judged: bool,
) -> tuple[Section, list[dict[str, Any]]] | None:
    """The section, and for its script one object a score; None where nothing is scored.

    ``thresholds``: reason -> the number that is in force; ``whys``: how ``auto`` came to it.
    """
    panels, charts = [], []
    for score in SCORES:
        counts = found.all[score.name]
        if not counts.any():
            continue
        used = np.flatnonzero(counts)
        first, last = int(used[0]), int(used[-1]) + 1
        threshold = thresholds.get(score.reason)
        edges = _edges(score).astype(np.float64).round(4)
        index = last if score.keeps_low else first  # all stay
        if threshold is not None:
            index = int(np.clip(np.abs(edges - threshold).argmin(), first, last))
        open_ = found.open[score.name][first:last]
        charts.append(_chart(score, counts[first:last], open_, float(edges[first]), index - first))
        panels.append(
            {
                "name": score.name,
                "label": score.label,
                "title": score.title,
                "reason": score.reason,
                "flag": "--" + score.reason.replace("_", "-"),
                "keeps_low": score.keeps_low,
                "start": float(edges[first]),
                "step": score.step,
                "open": open_.tolist(),
                "always": found.kept_always[score.name],
                "scored": int(counts.sum()),
                "threshold": threshold,
                "why": whys.get(score.reason),
                "index": index - first,
            }
        )
    if not panels:
        return None
    shown = list(zip(panels, charts, strict=True))
    text = body("scores.html.j2", panels=shown, judged=judged)
    return Section("scores", "Scores and thresholds", text, tuple(charts)), panels


def _chart(
    score: Score,
    counts: npt.NDArray[np.int64],
    open_: npt.NDArray[np.int64],
    start: float,
    index: int,
) -> Chart:
    """Bars over the range that is there; the ``threshold`` parameter colours and marks them."""
    import altair as alt

    near = slice(*axis_range(counts))
    width = max(1, -(-(near.stop - near.start) // _BARS))  # fine bins a bar
    cuts = np.arange(near.start, near.stop, width)
    totals, parts = (np.add.reduceat(some[: near.stop], cuts) for some in (counts, open_))
    bars = [
        {
            "from": round(start + cut * score.step, 4),
            "to": round(start + (cut + width) * score.step, 4),
            "scored": int(total),
            "judged": int(part),
        }
        for cut, total, part in zip(cuts, totals, parts, strict=True)
    ]
    at = alt.param(name="threshold", value=round(start + index * score.step, 4))
    stays = "datum.to <= threshold" if score.keeps_low else "datum.from >= threshold"
    domain = [bars[0]["from"], bars[-1]["to"]]
    scale = alt.Scale(domain=domain, zero=False, nice=False)
    axis = alt.Axis(tickCount=10)
    x = alt.X("from:Q", title=score.title, bin="binned", axis=axis, scale=scale)
    tip = [
        alt.Tooltip("from:Q", title="from"),
        alt.Tooltip("to:Q", title="to"),
        alt.Tooltip("scored:Q", title="samples", format=","),
        alt.Tooltip("judged:Q", title="not dropped for other reasons", format=","),
    ]
    y = alt.Y("scored:Q", title="samples", axis=alt.Axis(format=",d", tickCount=4))
    base = plot(bars)
    everything = base.mark_bar(color="var(--line-strong)", binSpacing=1).encode(
        x=x, x2="to:Q", y=y, tooltip=tip
    )
    others = base.mark_bar(binSpacing=1).encode(
        x=x,
        x2="to:Q",
        y=alt.Y("judged:Q"),
        tooltip=tip,
        color=alt.condition(stays, alt.value("var(--keep)"), alt.value("var(--drop)")),
    )
    line = (
        plot([{}])
        .transform_calculate(threshold="threshold")
        .mark_rule(strokeWidth=1.5, color="var(--text)", clip=True)
        .encode(x="threshold:Q")
    )
    layers = alt.layer(everything, others, line).add_params(at)
    spec = layers.properties(width="container", height=HEIGHT_PX).to_dict()
    label = f"{score.title} of all scored samples, in bins of {width * score.step:.4g}"
    label += beyond(int(counts[: near.start].sum()), f"below {domain[0]:.4g}")
    label += beyond(int(counts[near.stop :].sum()), f"from {domain[1]:.4g} up")
    return Chart(f"score-{score.name.replace('_', '-')}", spec, label)
