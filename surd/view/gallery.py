"""A page of the gallery: who is shown, in which order, and what their cards say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from surd.dataset.inspect import file_name
from surd.dataset.simple_prompts import COLUMNS
from surd.errors import SurdError
from surd.pages.text import visible
from surd.stages.filter.rules import LABELS
from surd.store.aligned import read_row
from surd.view.index import BITS, SCORES, Bools, Index
from surd.view.map import inside
from surd.view.nearest import nearest
from surd.view.query import FILTERS, STATES, Query, QueryError
from surd.view.state import Snapshot, View
from surd.view.words import PATIENCE_S

PAGE_ROWS = 60
MOST_NEAREST = 600
"""Images a search by CLIP leads to, at most."""
MOST_POINTS = 20_000
"""Images on the map, at most."""

Positions = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float32]

_NOBODY: tuple[Positions, Numbers] = (np.zeros(0, np.int64), np.zeros(0, np.float32))
_OF_CARDS = {
    **COLUMNS,
    "samples": ("prompt", "path", "url", "source_id", *COLUMNS["samples"]),
    "images": ("status",),
}
_LABELS = {"kept": "kept", "dropped": "dropped", "unjudged": "not filtered yet"}


@dataclass(frozen=True)
class Card:
    """What is shown of a sample among others."""

    id: str
    simple: str | None
    complex: str | None
    file: str | None
    """Name of its file."""
    edited: bool
    has_image: bool
    state: str
    """kept, dropped or unjudged."""
    label: str
    hand: str
    """keep, drop or empty."""
    note: str
    """The number it was found or sorted by."""


@dataclass(frozen=True)
class Page:
    """One page of what a query finds."""

    cards: list[Card]
    total: int
    pages: int
    number: int
    """Of this page, from 1; the last one where the query asks for more than there are."""
    states: dict[str, int]
    """What a query may show -> how many it would find."""
    most: int
    """How many it would find at most."""
    searched: float = 1.0
    """Share of the samples in which the words were looked for by now."""
    problem: str = ""
    """Why CLIP could not be asked."""

    @property
    def has_room(self) -> bool:
        """Whether it would show more if more were found."""
        return len(self.cards) < PAGE_ROWS and not self.problem


def page(view: View, now: Snapshot, query: Query) -> Page:
    """The page that the query asks for. Raises SurdError when something cannot be read."""
    problem = ""
    among, searched = _among(view, now, query, PATIENCE_S)
    try:
        positions, numbers = _found(view, now, query, among)
    except SurdError as error:
        if not query.text:
            raise
        (positions, numbers), problem = _NOBODY, str(error)
    total = len(positions)
    pages = max(1, -(-total // PAGE_ROWS))
    start = (min(query.page, pages) - 1) * PAGE_ROWS
    end = min(start + PAGE_ROWS, total)
    if not query.by_clip:
        positions, numbers = _sorted(now, query, positions, end)
    cards = _cards(view, now, positions[start:end], numbers[start:end])
    states, most = _states(now, query, among), _most(now, query)
    return Page(cards, total, pages, start // PAGE_ROWS + 1, states, most, searched, problem)


def _cards(view: View, now: Snapshot, positions: Positions, numbers: Numbers) -> list[Card]:
    return [card(view, now, int(p), float(n)) for p, n in zip(positions, numbers, strict=True)]


def like(view: View, now: Snapshot, position: int, count: int) -> list[Card]:
    """The images most like one, without itself; none where it has no image."""
    among = np.ones(len(now.index), np.bool_)
    among[position] = False
    vector = _embedding(view, now.index, position)
    if vector is None:
        return []
    found = nearest(view.workspace, now.index, vector, among, count, before_part=view.go_on)
    return _cards(view, now, *found)


def card(view: View, now: Snapshot, position: int, number: float) -> Card:
    """The card of one sample, with a number on it unless that is NaN."""
    place = now.index.place(position)
    rows = read_row(view.rows, *place, _OF_CARDS)
    samples = rows["samples"]
    state = state_of(now, position)
    return Card(
        id=samples["id"],
        simple=visible(now.written.simple_prompt(rows), 300),
        complex=visible(samples["prompt"], 300),
        file=visible(file_name(samples), 200),
        edited=samples["id"] in now.written.now,
        has_image=rows["images"].get("status") == "ok",
        state=state,
        label=label_of(now, position, state),
        hand=hand_of(now, position),
        note="" if np.isnan(number) else f"{number:.3f}",
    )


def state_of(now: Snapshot, position: int) -> str:
    """kept, dropped or unjudged, decisions of today included."""
    if not now.index.judged[position]:
        return "unjudged"
    return "kept" if now.kept[position] else "dropped"


def label_of(now: Snapshot, position: int, state: str) -> str:
    """The state in words, with who or what is behind it."""
    hand = hand_of(now, position)
    if hand and state != "unjudged" and (hand == "keep") == (state == "kept"):
        return f"{_LABELS[state]} by hand"
    reasons = now.index.reasons_at(position) if state == "dropped" else []
    more = f" +{len(reasons) - 1}" if len(reasons) > 1 else ""
    return f"dropped: {LABELS[reasons[0]]}{more}" if reasons else _LABELS[state]


def hand_of(now: Snapshot, position: int) -> str:
    """keep, drop or empty."""
    return ("", "keep", "drop")[int(now.hands[position])]


def counts(now: Snapshot) -> dict[str, Any]:
    """Samples by reason (of those that are dropped) and by source."""
    index = now.index
    dropped = index.judged & ~now.kept
    given = index.reasons[dropped]
    there = np.bitwise_or.reduce(given, initial=0)  # few reasons as a rule
    by_reason = {
        name: int(np.count_nonzero(given & BITS[name])) for name in FILTERS if there & BITS[name]
    }
    by_source = np.bincount(index.source, minlength=len(index.sources)).tolist()
    return {
        "reasons": by_reason,
        "sources": dict(zip(index.sources, by_source, strict=True)),
        "scores": [name for name in SCORES if not np.isnan(index.scores[name]).all()],
    }


def state_counts(now: Snapshot) -> dict[str, int]:
    """Samples by what a query shows, of all."""
    return _states(now, Query(), np.ones(len(now.index), np.bool_))


def _states(now: Snapshot, query: Query, among: Bools) -> dict[str, int]:
    most = _most(now, query)
    return {show: min(most, int((among & _shown(now, show)).sum())) for show in STATES}


def _most(now: Snapshot, query: Query) -> int:
    return MOST_NEAREST if query.by_clip else len(now.index)


def _shown(now: Snapshot, show: str) -> Bools:
    """Who is in one of STATES."""
    found: Bools = {
        "all": np.ones(len(now.index), np.bool_),
        "kept": now.kept,
        "dropped": now.index.judged & ~now.kept,
        "hand": by_hand(now),
    }[show]
    return found


def by_hand(now: Snapshot) -> Bools:
    """Who was decided on, or edited."""
    found: Bools = now.hands != 0
    found[list(now.index.positions_of(now.written.now).values())] = True
    return found


def search_on(view: View, now: Snapshot, query: Query) -> dict[str, Any]:
    """Go on where the page of a query stopped to look for words: the share of the samples that was
    ``searched`` by now, and how many of them were ``found``."""
    among, searched = _among(view, now, query, PATIENCE_S)
    return {"searched": searched, "found": _states(now, query, among)[query.show]}


def found(view: View, now: Snapshot, query: Query) -> list[str]:
    """The ids of all samples that a query finds, on whatever page."""
    positions, _ = _found(view, now, query, _among(view, now, query)[0])
    return _ids(view, now.index, np.sort(positions))


def points(view: View, now: Snapshot, query: Query) -> dict[str, Any]:
    """What the map shows of a query: of many samples those that come first by their ids, which are
    hashes; ``total`` is how many there would be."""
    index = now.index
    positions = np.sort(_found(view, now, query, _among(view, now, query)[0])[0])
    places = view.map(index)[positions]
    there = ~np.isnan(places[:, 0])
    positions, places = positions[there], places[there]
    total = len(positions)
    if total > MOST_POINTS:
        first = np.sort(np.argpartition(index.keys[positions], MOST_POINTS)[:MOST_POINTS])
        positions, places = positions[first], places[first]
    return {
        "total": total,
        "ids": _ids(view, index, positions),
        "x": places[:, 0].astype(int).tolist(),
        "y": places[:, 1].astype(int).tolist(),
        "states": [state_of(now, int(position)) for position in positions],
    }


def _ids(view: View, index: Index, positions: Positions) -> list[str]:
    """The ids at ascending positions."""
    wanted: dict[int, list[int]] = {}
    for position in positions:
        part, row = index.place(int(position))
        wanted.setdefault(part, []).append(row)
    ids: list[str] = []
    for part, rows in wanted.items():
        ids += view.workspace.read("samples", part, ["id"])["id"].take(rows).to_pylist()
    return ids


def _found(view: View, now: Snapshot, query: Query, among: Bools) -> tuple[Positions, Numbers]:
    """Whom a query finds: by CLIP the nearest first, with their cosines; else in the order they
    were collected, without numbers."""
    shown = among & _shown(now, query.show)
    if query.by_clip:
        return _nearest(view, now, query, shown)
    return np.flatnonzero(shown), _NOBODY[1]


def _among(
    view: View, now: Snapshot, query: Query, patience_s: float | None = None
) -> tuple[Bools, float]:
    """Who passes the filters of a query, whatever it shows; and in which share of the samples its
    words were looked for, all without ``patience_s``."""
    index = now.index
    among: Bools = np.ones(len(index), np.bool_)
    if query.reason:
        among &= index.has_reason(query.reason)
    if query.source:
        if query.source not in index.sources:
            known = ", ".join(index.sources)
            raise QueryError(f"source: {visible(query.source, 60)} is not one of {known}")
        among &= index.source == index.sources.index(query.source)
    if query.by_clip:
        among &= index.embedded
    if query.like:
        position = view.find(index, query.like)
        if position is None:
            raise QueryError(f"like: there is no sample {query.like}")
        among[position] = among[position] and bool(query.text)
    if query.lasso:
        among &= inside(query.polygon, view.map(index))
    searched = 1.0
    if query.words or query.tag:
        asked = index, now.written, query.words, query.tag, among
        rows, searched = view.words.found(*asked, patience_s)
        among &= rows
    return among, searched


def _sorted(
    now: Snapshot, query: Query, positions: Positions, count: int
) -> tuple[Positions, Numbers]:
    """The first ``count`` of some positions as the query sorts them, and what it sorts by.

    Only what may be among them is sorted: of ten million samples a page shows sixty.
    """
    if query.sort == "collected":
        return positions[:count], np.full(count, np.nan, np.float32)
    scores = now.index.scores[query.sort][positions]
    keys = scores if query.order == "up" else -scores  # NaN is last
    first = np.arange(len(keys))
    if 0 < count < len(keys) and not np.isnan(last := np.partition(keys, count - 1)[count - 1]):
        first = np.flatnonzero(keys <= last)
    order = first[np.argsort(keys[first], kind="stable")][:count]
    return positions[order], scores[order]


def _nearest(view: View, now: Snapshot, query: Query, among: Bools) -> tuple[Positions, Numbers]:
    if query.text:
        vector = view.encoder.encode(query.text)
    else:
        position = view.find(now.index, query.like)
        found = None if position is None else _embedding(view, now.index, position)
        if found is None:
            return _NOBODY
        vector = found
    return nearest(view.workspace, now.index, vector, among, MOST_NEAREST, before_part=view.go_on)


def _embedding(view: View, index: Index, position: int) -> Numbers | None:
    columns = {"samples": (), "clip": ("image_embedding",)}
    row = read_row(view.rows, *index.place(position), columns)["clip"]
    numbers = row.get("image_embedding")
    return np.array(numbers, np.float32) if numbers else None
