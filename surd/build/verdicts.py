"""What the verdicts say in sum: the funnel, what changed, and thresholds worth trying."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from surd.engine.whole_table import whole_table
from surd.params import Params
from surd.recipe.keys import Recipe
from surd.stages.filter.params import FilterParams
from surd.stages.filter.stage import STAGE, judge
from surd.stages.filter.thresholds import suggest
from surd.store import manual
from surd.store.prefetch import READERS, at_once
from surd.store.workspace import Workspace


@dataclass(frozen=True)
class Dropped:
    """What one reason takes away."""

    reason: str
    samples: int
    only: int
    """Samples that this reason alone drops."""
    threshold: float | None
    """The number behind it, quantiles resolved."""
    why: str | None = None
    """How ``auto`` came to that number."""


@dataclass(frozen=True)
class Funnel:
    """From all samples to those that are kept."""

    samples: int
    kept: int
    kept_by_hand: int
    """Of these, in spite of a filter."""
    dropped: list[Dropped]
    """By number of samples, most first; a sample may be dropped for several reasons."""


def funnel(tables: Iterable[pa.Table]) -> Funnel:
    """The funnel of verdicts, part by part."""
    samples = kept = by_hand = 0
    all_, only = Counter[str](), Counter[str]()
    thresholds: dict[str, tuple[float | None, str | None]] = {}
    for part in at_once(tables, _funnel_of_part, READERS):
        samples += part.samples
        kept += part.kept
        by_hand += part.kept_by_hand
        for one in part.dropped:
            all_[one.reason] += one.samples
            only[one.reason] += one.only
            thresholds.setdefault(one.reason, (one.threshold, one.why))
    dropped = [Dropped(name, n, only[name], *thresholds[name]) for name, n in all_.most_common()]
    return Funnel(samples, kept, by_hand, dropped)


def _funnel_of_part(table: pa.Table) -> Funnel:
    kept = table["keep"].combine_chunks()
    reasons = against(table["reasons"])
    overruled = pc.greater(pc.list_value_length(reasons), 0)
    by_hand = pc.sum(pc.and_(kept, overruled)).as_py() or 0
    reasons = reasons.filter(pc.invert(kept))
    flat = reasons.flatten()
    names = flat.field("reason")
    lonely = reasons.filter(pc.equal(pc.list_value_length(reasons), 1))
    only = _counts(lonely.flatten().field("reason"))
    dropped = []
    for name, count in _counts(names).items():
        first = pc.index(names, name).as_py()
        number = flat.field("threshold")[first].as_py()
        why = flat.field("detail")[first].as_py() if number is not None else None
        dropped.append(Dropped(name, count, only.get(name, 0), number, why))
    return Funnel(table.num_rows, pc.sum(kept).as_py() or 0, by_hand, dropped)


def against(reasons: pa.ChunkedArray) -> pa.ListArray:
    """What is said against each sample: the reasons but for decisions to keep it."""
    lists = reasons.combine_chunks()
    entries = lists.flatten()
    decided = pc.equal(entries.field("reason"), manual.REASON)
    keeps = pc.and_(decided, pc.equal(entries.field("detail"), "keep")).fill_null(False)
    if not pc.any(keeps).as_py():
        return lists
    is_left = pc.invert(keeps).to_numpy(zero_copy_only=False)
    rows_of = pc.list_parent_indices(lists).to_numpy()[is_left]
    sizes = np.bincount(rows_of, minlength=len(lists))
    offsets = pa.array(np.r_[0, np.cumsum(sizes)].astype(np.int32))
    left = entries.filter(pa.array(is_left))
    return pa.ListArray.from_arrays(offsets, left, mask=lists.is_null())


def _counts(names: pa.Array) -> dict[str, int]:
    return {entry["values"]: entry["counts"] for entry in pc.value_counts(names).to_pylist()}


def compute(
    workspace: Workspace, params: Params, decisions: manual.Decisions
) -> Iterator[pa.Table]:
    """Verdicts as they would be, one table a part; nothing is written."""
    assert isinstance(params, FilterParams)
    return judge(whole_table(workspace, STAGE, decisions), params)


def current(workspace: Workspace) -> dict[int, npt.NDArray[np.bool_]]:
    """Part -> who is kept by the verdicts there are."""
    parts = workspace.parts("verdicts")
    tables = written(workspace, ["keep"])
    return {part: table["keep"].to_numpy() for part, table in zip(parts, tables, strict=True)}


def written(workspace: Workspace, columns: Sequence[str]) -> Iterator[pa.Table]:
    """The verdicts there are, one table a part."""
    parts = workspace.parts("verdicts")
    return at_once(parts, lambda part: workspace.read("verdicts", part, columns), READERS)


def changes(
    before: dict[int, npt.NDArray[np.bool_]], after: dict[int, npt.NDArray[np.bool_]]
) -> tuple[int, int]:
    """How many samples are newly kept, and newly dropped, of those judged before and after."""
    kept = dropped = 0
    for part in before.keys() & after.keys():
        if len(before[part]) == len(after[part]):
            kept += int((after[part] & ~before[part]).sum())
            dropped += int((before[part] & ~after[part]).sum())
    return kept, dropped


@dataclass(frozen=True)
class Unjudged:
    """Samples that a threshold does not judge, since they have no such score."""

    samples: int
    why: str
    """The setting for which they have none; empty where a model gave none."""


_SCORED_BY = {"min_itm": "itm", "min_aesthetic": "aesthetic_head", "max_nsfw": "nsfw"}
"""Threshold -> the key of score that asks for the scores."""
_READ = {
    "clip_threshold": ("cos_simple",),
    "complex_threshold": ("cos_complex",),
    "min_margin": ("cos_simple", "cos_complex"),
    "min_itm": ("itm",),
    "min_aesthetic": ("aesthetic",),
    "max_nsfw": ("nsfw",),
}


def unjudged(
    workspace: Workspace, recipe: Recipe, *, but: Collection[str] = ()
) -> dict[str, Unjudged]:
    """Threshold of the filter that is on -> samples that it does not judge for want of a score.

    Samples without the prompts that it is about are not counted: they have another reason, or the
    recipe asks for none. Thresholds that judge all samples are left out, and those in `but`.
    """
    asked = [name for name in _READ if name not in but and getattr(recipe.filter, name) is not None]
    counts: Counter[str] = Counter()
    parts = workspace.parts("samples") if asked else ()
    for found in at_once(parts, lambda part: _unjudged_of_part(workspace, part, asked), READERS):
        counts += found
    return {name: Unjudged(counts[name], _lacks(name, recipe)) for name in asked if counts[name]}


def _unjudged_of_part(workspace: Workspace, part: int, asked: Sequence[str]) -> Counter[str]:
    columns = {"cos_simple", *(column for name in asked for column in _READ[name])}
    table = workspace.read("clip", part, sorted(columns))
    lacks = {c: np.isnan(table[c].cast(pa.float32()).to_numpy()) for c in columns}
    has_prompt = {c: table[c].is_valid().to_numpy() for c in columns if c.startswith("cos_")}
    counts: Counter[str] = Counter()
    for name in asked:
        lacking = np.any([lacks[column] for column in _READ[name]], axis=0)
        for column in {"cos_simple", *_READ[name]} & has_prompt.keys():
            lacking &= has_prompt[column]
        counts[name] = int(lacking.sum())
    return counts


def _lacks(threshold: str, recipe: Recipe) -> str:
    key = _SCORED_BY.get(threshold)
    value = getattr(recipe.score, key) if key else "on"
    return f"score.{key} is {value or 'null'}" if value in (None, "none") else ""


_BARS = 40
_SCORES = ("cos_simple", "cos_complex", "itm", "aesthetic", "nsfw")


def suggestions(workspace: Workspace) -> dict[str, dict[str, Any]]:
    """Score -> quantiles, histogram and a threshold, for every score that is there."""
    found: dict[str, dict[str, Any]] = {}
    parts = workspace.parts("clip")
    for name in _SCORES:
        columns = [workspace.read("clip", part, [name])[name] for part in parts]
        values = np.concatenate([c.cast(pa.float64()).to_numpy() for c in columns] or [[]])
        there = values[~np.isnan(values)]
        if len(there) == 0:
            continue
        counts, edges = np.histogram(there, bins=_BARS)
        found[name] = {
            "samples": len(there),
            "quantiles": {f"p{q}": float(np.percentile(there, q)) for q in (1, 5, 25, 50, 75, 95)},
            "histogram": {"counts": counts.tolist(), "edges": edges.tolist()},
            "suggested": suggest(values),
        }
    return found
