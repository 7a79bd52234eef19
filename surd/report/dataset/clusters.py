"""Duplicates, cluster by cluster: the one that is kept, and those that show the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from surd.report.dataset.samples import Place, Samples
from surd.report.page import Section, body
from surd.store.workspace import Workspace

CLUSTERS, MEMBERS = 16, 6
_KINDS = {
    "exact": "identical bytes",
    "phash": "matching perceptual hashes",
    "clip": "close by CLIP, with similar hashes",
}
_SIZES = ((2, 2), (3, 3), (4, 5), (6, 10), (11, 100), (101, None))


class Duplicates:
    """How many clusters there are, of which sizes, and by which kind of likeness."""

    def __init__(self) -> None:
        self.kinds: Counter[str] = Counter()
        self.sizes: Counter[int] = Counter()
        self._largest: list[tuple[int, str, int]] = []

    def add(self, rows: pa.Table) -> None:
        """Count a part's rows."""
        kinds = rows["kind"].drop_null()
        self.kinds.update({v["values"]: v["counts"] for v in pc.value_counts(kinds).to_pylist()})
        first = pc.and_(pc.is_null(rows["kind"]), pc.greater(rows["cluster_size"], 1))
        heads = rows.filter(pc.fill_null(first, False)).select(["cluster", "cluster_size"])
        sizes = heads["cluster_size"].to_pylist()
        self.sizes.update(sizes)
        found = [
            (-size, name, size)
            for name, size in zip(heads["cluster"].to_pylist(), sizes, strict=True)
        ]
        self._largest = sorted([*self._largest, *found])[:CLUSTERS]

    def largest(self) -> dict[str, int]:
        """Name -> size of the largest clusters."""
        return {name: size for _, name, size in self._largest}


def members(workspace: Workspace, wanted: dict[str, int]) -> dict[str, list[Place]]:
    """Where the members of the wanted clusters are, the kept one first."""
    found: dict[str, list[Place]] = {name: [] for name in wanted}
    names = pa.array(list(wanted), pa.string())
    judged = set(workspace.parts("verdicts"))
    for part in workspace.parts("duplicates") if wanted else []:
        table = workspace.read("duplicates", part, ["cluster", "kind"])
        kept = table["kind"].is_null()  # which dedup found best, while nothing is judged
        if part in judged:
            kept = workspace.read("verdicts", part, ["keep"])["keep"]
        here = pc.is_in(table["cluster"], names).to_numpy()
        for row in np.flatnonzero(here):
            one = table.slice(row, 1).to_pylist()[0]
            places = found[one["cluster"]]
            if row < len(kept) and kept[row].as_py():
                places.insert(0, (part, int(row)))
            elif len(places) < MEMBERS + 1:
                places.append((part, int(row)))
    return {name: places[:MEMBERS] for name, places in found.items()}


def section(
    found: Duplicates, places: dict[str, list[Place]], samples: Samples
) -> tuple[Section, list[dict[str, Any]]] | None:
    """The section, and for its script the clusters; None where nothing is there twice."""
    if not found.sizes:
        return None
    kinds = [
        (name, found.kinds[name], about) for name, about in _KINDS.items() if found.kinds[name]
    ]
    sizes = [
        (_range(low, high), count)
        for low, high in _SIZES
        if (count := sum(n for size, n in found.sizes.items() if low <= size <= (high or size)))
    ]
    largest = found.largest()
    shown = [
        {"size": largest[name], "samples": indices}
        for name, at in places.items()
        if (indices := samples.indices(at))
    ]
    text = body(
        "clusters.html.j2",
        kinds=kinds,
        sizes=sizes,
        clusters=sum(found.sizes.values()),
        more=sum(found.kinds.values()),
        shown=len(shown),
    )
    return Section("duplicates", "Duplicates", text), shown


def _range(low: int, high: int | None) -> str:
    if high is None:
        return f"{low} or more"
    return str(low) if low == high else f"{low} to {high}"
