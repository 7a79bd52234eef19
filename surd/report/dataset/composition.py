"""What the dataset is made of: sizes, shapes, sources, licences, lengths and words of prompts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from surd.pages.plot import HEIGHT_PX, plot
from surd.pages.text import visible
from surd.report.dataset.axes import axis_end, beyond
from surd.report.dataset.buckets import SIDES, Buckets
from surd.report.page import Chart, Section, body
from surd.text.languages import language

_SHOWN = 12
_MAX_KEYS = 2_000
_MAX_WORDS = 100_000
OTHERS = "(others)"
_CATEGORIES = {
    "source": "source",
    "licence": "licence according to the source",
    "nsfw_level": "NSFW level according to the source",
    "mime": "file format",
    "language": "language of the complex prompt",
}
_SIDE_PX, _SIDES = 64, 64
_ASPECTS = np.linspace(-2.05, 2.05, 42)
"""Edges in octaves of width / height: 1:4 to 4:1, each in the middle of its bin."""
_LENGTHS = 100
_WORD = r"[^\pL\pN'’-]+"
STOP_WORDS = """
a an and are as at be been being but by for from has have having he her him his i in into is it its
of off on one or she so some that the their them there these they this those to was were which while
who with
"""


@dataclass(frozen=True)
class Words:
    """Counts of words, in memory that does not grow: when there are too many different ones, the
    rarer half is forgotten, so what is frequent is counted right and what is rare is not shown."""

    counts: Counter[str]
    lengths: npt.NDArray[np.int64]
    """Prompts of 0, 1, ... words; the last for all longer ones."""

    def add(self, prompts: pa.ChunkedArray) -> None:
        """Count a part's prompts."""
        lists = pc.split_pattern_regex(pc.utf8_lower(prompts.drop_null()), _WORD).combine_chunks()
        words = lists.flatten()
        real = pc.match_substring_regex(words, r"[\pL\pN]")
        parents = pc.list_parent_indices(lists).filter(real).to_numpy()
        each = np.bincount(parents, minlength=len(lists)).clip(max=_LENGTHS)
        self.lengths[:] += np.bincount(each, minlength=_LENGTHS + 1)
        found = pc.value_counts(words.filter(real))
        self.counts.update(dict(zip(*(found.field(i).to_pylist() for i in (0, 1)), strict=True)))
        if len(self.counts) > _MAX_WORDS:
            frequent = self.counts.most_common(_MAX_WORDS // 2)
            self.counts.clear()
            self.counts.update(dict(frequent))

    def most_common(self) -> list[tuple[str, int]]:
        """The most frequent words that say something, most frequent first."""
        silent = set(STOP_WORDS.split())
        telling = ((w, n) for w, n in self.counts.items() if w not in silent)
        ranked = sorted(telling, key=lambda item: (-item[1], item[0]))[:20]
        return [(visible(word, 40), count) for word, count in ranked]


class Composition:
    """Counts over all rows that have what is counted."""

    def __init__(self) -> None:
        self.categories: dict[str, Counter[str]] = {name: Counter() for name in _CATEGORIES}
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.sides = np.zeros(_SIDES + 1, np.int64)
        self.aspects = np.zeros(len(_ASPECTS) - 1, np.int64)
        self.buckets = [Buckets(side) for side in SIDES]
        self.words = {
            name: Words(Counter(), np.zeros(_LENGTHS + 1, np.int64))
            for name in ("simple_prompt", "complex_prompt", "dense_caption")
        }
        self.tags: Counter[str] = Counter()

    def add(self, rows: pa.Table) -> None:
        """Count a part's rows."""
        for name, counter in self.categories.items():
            said = rows[name].drop_null() if name in ("mime", "language") else rows[name]
            for entry in pc.value_counts(said).to_pylist():
                _count(counter, entry["values"] or "not stated", entry["counts"])
        pictures = rows.filter(pc.greater(rows["width"], 0))
        width, height = (pictures[name].to_numpy() for name in ("width", "height"))
        pairs, counts = np.unique(np.stack([width, height]), axis=1, return_counts=True)
        for (w, h), count in zip(pairs.T.tolist(), counts.tolist(), strict=True):
            _count(self.sizes, (w, h), count, (0, 0))
        side = (np.minimum(width, height) // _SIDE_PX).clip(max=_SIDES)
        self.sides += np.bincount(side, minlength=_SIDES + 1)
        octaves = np.log2(width / np.maximum(height, 1)).clip(-2, 2)
        self.aspects += np.histogram(octaves, _ASPECTS)[0]
        for buckets in self.buckets:
            buckets.add(width, height)
        for name, words in self.words.items():
            words.add(rows[name])
        tags = pc.split_pattern(rows["tags"].drop_null(), ", ").combine_chunks().flatten()
        for entry in pc.value_counts(tags).to_pylist():
            _count(self.tags, entry["values"], entry["counts"])


def _count(counter: Counter[Any], key: Any, count: int, others: Any = OTHERS) -> None:
    """Count a key that strangers made up, which must not fill the memory."""
    counter[key if key in counter or len(counter) < _MAX_KEYS else others] += count


def section(found: Composition) -> Section | None:
    """Pictures, provenance and prompts; None where there is nothing."""
    charts = []
    if found.sides.any():
        charts += [_sides(found.sides), _aspects(found.aspects)]
    if any(words.lengths.any() for words in found.words.values()):
        charts.append(_lengths(found.words))
    sizes = [
        (f"{w:,} × {h:,}" if w else OTHERS, count) for (w, h), count in found.sizes.most_common()
    ]
    tables = [("size in pixels", _top(sizes))] if sizes else []
    tables += [(buckets.title(), _top(buckets.ranked())) for buckets in found.buckets if sizes]
    for name, title in _CATEGORIES.items():
        counts = found.categories[name]
        ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
        if ranked and set(counts) != {"not stated"}:
            names = ((visible(key, 80), n) for key, n in ranked)
            told = [(language(key), n) for key, n in names] if name == "language" else [*names]
            tables.append((title, _top(told)))
    words = [
        (name.replace("_", " "), _bars(counts.most_common()))
        for name, counts in found.words.items()
        if counts.counts
    ]
    if found.tags:
        ranked = sorted(found.tags.items(), key=lambda item: (-item[1], item[0]))[:20]
        words.append(("tags", _bars([(visible(tag, 40), count) for tag, count in ranked])))
    if not (charts or tables or words):
        return None
    text = body("composition.html.j2", charts=charts, tables=tables, words=words)
    return Section("composition", "Composition", text, tuple(charts))


def _top(counts: list[tuple[str, int]]) -> list[tuple[str, int, float]]:
    """The first of ranked counts, the others summed up, each with its share of all."""
    rest = sum(count for _, count in counts[_SHOWN:])
    shown = [*counts[:_SHOWN], *([(f"{len(counts) - _SHOWN:,} others", rest)] if rest else [])]
    return _bars(shown, sum(count for _, count in counts))


def _bars(counts: list[tuple[str, int]], whole: int | None = None) -> list[tuple[str, int, float]]:
    whole = whole or max((count for _, count in counts), default=1)
    return [(name, count, count / whole) for name, count in counts]


def _histogram(rows: list[dict[str, Any]], x: Any, tip: list[Any]) -> Any:
    import altair as alt

    y = alt.Y("samples:Q", title="samples", axis=alt.Axis(format="~s", tickCount=4, tickMinStep=1))
    bars = plot(rows).mark_bar(binSpacing=1).encode(x=x, x2="to:Q", y=y, tooltip=tip)
    return bars.properties(width="container", height=HEIGHT_PX)


def _sides(counts: npt.NDArray[np.int64]) -> Chart:
    import altair as alt

    end = axis_end(counts)
    rows = [
        {"from": i * _SIDE_PX, "to": (i + 1) * _SIDE_PX, "samples": int(n)}
        for i, n in enumerate(counts[:end])
        if n
    ]
    x = alt.X("from:Q", title="shorter side in pixels", bin="binned", scale=alt.Scale(zero=False))
    tip = [alt.Tooltip(name, format=",") for name in ("from:Q", "to:Q", "samples:Q")]
    more = beyond(int(counts[end:].sum()), f"from {end * _SIDE_PX:,} px up")
    if end > _SIDES:
        more = f"; the last bar includes everything from {_SIDES * _SIDE_PX:,} up"
    return Chart("sides", _histogram(rows, x, tip).to_dict(), f"Shorter side of the pictures{more}")


def _aspects(counts: npt.NDArray[np.int64]) -> Chart:
    import altair as alt

    rows = [
        {"from": float(a), "to": float(b), "samples": int(n), "ratio": f"{2 ** ((a + b) / 2):.2f}"}
        for a, b, n in zip(_ASPECTS, _ASPECTS[1:], counts, strict=False)
    ]
    labels = "{'-2': '1:4', '-1': '1:2', '0': '1:1', '1': '2:1', '2': '4:1'}[datum.value]"
    axis = alt.Axis(values=[-2, -1, 0, 1, 2], labelExpr=labels)
    scale = alt.Scale(domain=[float(_ASPECTS[0]), float(_ASPECTS[-1])], nice=False)
    x = alt.X("from:Q", title="width : height", bin="binned", axis=axis, scale=scale)
    tip = [alt.Tooltip("ratio:N", title="about"), alt.Tooltip("samples:Q", format=",")]
    more = "; the outer bars include all that is longer" if counts[[0, -1]].any() else ""
    label = f"Aspect ratio of the pictures{more}"
    return Chart("aspects", _histogram(rows, x, tip).to_dict(), label)


def _lengths(words: dict[str, Words]) -> Chart:
    import altair as alt

    lengths = np.sum([counted.lengths for counted in words.values()], axis=0)
    end = axis_end(lengths)
    rows = [
        {"words": length, "samples": int(count), "prompt": name.removesuffix("_prompt")}
        for name, counted in words.items()
        for length, count in enumerate(counted.lengths[:end])
        if counted.lengths.any()
    ]
    areas = (
        plot(rows)
        .mark_area(opacity=0.35, line=True, interpolate="step")
        .encode(
            x=alt.X("words:Q", title="words"),
            y=alt.Y(
                "samples:Q", stack=None, axis=alt.Axis(format="~s", tickCount=4, tickMinStep=1)
            ),
            color=alt.Color("prompt:N", title="prompt", sort=None, legend=alt.Legend(orient="top")),
            tooltip=["prompt:N", "words:Q", alt.Tooltip("samples:Q", format=",")],
        )
        .properties(width="container", height=HEIGHT_PX)
    )
    more = beyond(int(lengths[end:].sum()), f"of {end:,} words or more")
    if end > _LENGTHS:
        more = f"; {_LENGTHS} stands for all longer prompts"
    return Chart("lengths", areas.to_dict(), f"Length of the prompts in words{more}")
