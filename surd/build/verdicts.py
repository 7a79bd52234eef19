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
    """Samples that a setting of the filter does not judge, since they lack what it looks at."""

    samples: int
    why: str
    """Why they lack it; empty where a model gave them no score."""
    idle: bool
    """Whether nobody asked for the setting, and it judges no samples at all."""


_READ = {
    "clip_threshold": ("cos_simple",),
    "complex_threshold": ("cos_complex",),
    "min_margin": ("cos_simple", "cos_complex"),
    "min_itm": ("itm",),
    "min_aesthetic": ("aesthetic",),
    "max_nsfw": ("nsfw",),
    "max_nsfw_level": ("nsfw_level",),
    "languages": ("language",),
    "max_per_author": ("author",),
}
"""Setting -> what it looks at. What is missing has a reason of its own for all other settings."""
_GROUPS = {"nsfw_level": "samples", "author": "samples", "language": "prompts"}
"""Where that is; scores are in `clip`."""
_COSINES = ("cos_simple", "cos_complex")
_OF_COMPLEX = ("complex_threshold", "min_margin", "languages")
"""Settings about the complex prompt."""
_MADE_BY = {
    "min_itm": ("score", "itm"),
    "min_aesthetic": ("score", "aesthetic_head"),
    "max_nsfw": ("score", "nsfw"),
    "languages": ("prompts", "language"),
}
"""Setting -> the key of the recipe that asks for what it looks at."""
_STATED = {
    "max_nsfw_level": "their source states no level",
    "max_per_author": "their source names no author",
}


def unjudged(
    workspace: Workspace,
    recipe: Recipe,
    given: Collection[str] = (),
    *,
    but: Collection[str] = (),
) -> dict[str, Unjudged]:
    """Setting of the filter that is on -> samples that it does not judge for want of a value.

    Samples without the prompts that it is about are not counted: they have another reason, or the
    recipe asks for none. Settings that judge all samples are left out, and those in `but`. Somebody
    asked for those that differ from their defaults, and for those in `given`.
    """
    asked = [name for name in _READ if name not in but and getattr(recipe.filter, name) is not None]
    counts, judged = Counter[str](), Counter[str]()
    parts = workspace.parts("samples") if asked else ()
    found = at_once(parts, lambda part: _unjudged_of_part(workspace, part, asked), READERS)
    for lacking, others in found:
        counts += lacking
        judged += others
    unset = unset_settings(recipe) - set(given)
    return {
        name: Unjudged(counts[name], _why(name, recipe), name in unset and not judged[name])
        for name in asked
        if counts[name]
    }


def unset_settings(recipe: Recipe) -> set[str]:
    """Settings of the filter that have their defaults."""
    return {name for name, value in FilterParams() if value == getattr(recipe.filter, name)}


def _unjudged_of_part(
    workspace: Workspace, part: int, asked: Sequence[str]
) -> tuple[Counter[str], Counter[str]]:
    """Of each setting: samples that it does not judge, and samples that it does."""
    columns: dict[str, set[str]] = {"clip": {"cos_simple"}}
    for name in asked:
        for column in (*_READ[name], *(["cos_complex"] if name in _OF_COMPLEX else ())):
            columns.setdefault(_GROUPS.get(column, "clip"), set()).add(column)
    values: dict[str, pa.ChunkedArray] = {}
    for group, names in columns.items():  # aligned, as the filter has seen
        table = workspace.read(group, part, sorted(names))
        values |= zip(table.column_names, table.columns, strict=True)
    lacks = {name: _lacks(column) for name, column in values.items()}
    there = {n: column.is_valid().to_numpy() for n, column in values.items() if n in _COSINES}
    lacking, others = Counter[str](), Counter[str]()
    for name in asked:
        about = there["cos_simple"]  # a cosine is there where its prompt is
        if name in _OF_COMPLEX:
            about = about & there["cos_complex"]
        lacked = about & np.any([lacks[column] for column in _READ[name]], axis=0)
        lacking[name] = int(lacked.sum())
        others[name] = int(about.sum()) - lacking[name]
    return lacking, others


def _lacks(column: pa.ChunkedArray) -> npt.NDArray[np.bool_]:
    """``[n]``: who has no such value."""
    nan = pa.types.is_floating(column.type)
    missing: npt.NDArray[np.bool_] = column.is_null(nan_is_null=nan).to_numpy()
    return missing


def _why(setting: str, recipe: Recipe) -> str:
    if setting in _STATED:
        return _STATED[setting]
    section, key = _MADE_BY.get(setting, ("", ""))
    value = getattr(getattr(recipe, section), key) if section else True
    told = {None: "null", False: "false"}.get(value, value)
    return f"{section}.{key} is {told}" if value in (None, False, "none") else ""


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
