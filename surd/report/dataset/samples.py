"""The samples that the page shows: the same ones each time, what is known of each, and its
thumbnail, within a budget and in memory that does not grow."""

from __future__ import annotations

import contextlib
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from surd.errors import WorkspaceError
from surd.pages.templates import as_json
from surd.pages.text import visible, web_link
from surd.report.dataset.rows import MORE, read
from surd.report.page import thumbnail
from surd.store.aligned import Parts
from surd.store.workspace import Workspace

Place = tuple[int, int]
"""Part and row."""
_BLOCK_ROWS = 64
_BLOCKS = 160
_LATER = np.uint64(1 << 63)


class Choice:
    """Of all rows offered under a name, those whose ids come first by their hash.

    Ids are hashes already, so this is a uniform sample that stays as the dataset grows. In a
    large dataset rows of some blocks, chosen by chance, go before all others: pictures lie in
    row groups, and what is shown should not need every one of them read.
    """

    def __init__(self, rows: int) -> None:
        self._share = min(1.0, _BLOCKS * _BLOCK_ROWS / max(1, rows))
        self._kept: dict[Hashable, list[tuple[int, Place]]] = {}

    def order(self, ids: pa.ChunkedArray, part: int) -> npt.NDArray[np.uint64]:
        """Whose turn it is, ``[n]``: the lowest first."""
        heads = np.array(pc.utf8_slice_codeunits(ids, 0, 8).to_pylist(), "S8")
        order: npt.NDArray[np.uint64] = heads.view(">u8").astype(np.uint64) >> np.uint64(1)
        if self._share < 1:
            blocks = np.arange(len(order)) // _BLOCK_ROWS
            chance = np.random.default_rng(part).random(len(order) // _BLOCK_ROWS + 1)
            order[chance[blocks] >= self._share] |= _LATER
        return order

    def offer(
        self,
        name: Hashable,
        limit: int,
        part: int,
        order: npt.NDArray[np.uint64],
        among: npt.NDArray[np.bool_] | npt.NDArray[np.intp],
    ) -> None:
        """Keep under ``name`` the first ``limit`` of the rows offered so far."""
        rows = np.flatnonzero(among) if among.dtype == bool else among
        if len(rows) > limit:
            rows = rows[np.argpartition(order[rows], limit)[:limit]]
        new = [(int(order[row]), (part, int(row))) for row in rows]
        self._kept[name] = sorted([*self._kept.get(name, []), *new])[:limit]

    def places(self, name: Hashable) -> list[Place]:
        """The rows kept under a name, first first."""
        return [place for _, place in self._kept.get(name, [])]

    def names(self) -> list[Hashable]:
        """Every name under which rows were offered."""
        return list(self._kept)


MOST = 900
BUDGET_BYTES = 7_000_000
"""Of all samples as JSON; Vega takes 0.9 MB and everything else less than 1 MB."""
_UNFIT, _UNFIT_LEVELS = 0.5, ("mature", "x")
"""What is blurred until somebody wants to see it."""
_SCORES = ("cos_simple", "cos_complex", "itm", "aesthetic", "nsfw")


class Samples:
    """Samples in the order of their importance, found by their place."""

    def __init__(self, entries: Mapping[Place, Mapping[str, Any]]) -> None:
        self.entries = list(entries.values())
        """JSON objects; keys without a value are left out."""
        self._at = {place: index for index, place in enumerate(entries)}

    def indices(self, places: Iterable[Place]) -> list[int]:
        """Where the samples are in ``entries``; those that the budget left out are skipped."""
        return [self._at[place] for place in places if place in self._at]


def gather(
    workspace: Workspace,
    groups: Parts,
    wanted: Sequence[Place],
    budget_bytes: int = BUDGET_BYTES,
) -> Samples:
    """Read the samples at the wanted places, the most important first.

    Of each part only the row groups of pictures that are shown are read. When the budget is
    spent, the samples that are left have no thumbnail, and then are left out.
    """
    places = list(dict.fromkeys(wanted))[:MOST]
    by_part: dict[int, list[int]] = defaultdict(list)
    for part, row in places:
        by_part[part].append(row)
    found: dict[Place, dict[str, Any]] = {}
    for part, rows in sorted(by_part.items()):
        table = read(workspace, part, groups, MORE).take(sorted(rows))
        pictures = (
            _thumbnails(workspace, part, sorted(rows)) if part in groups.get("images", ()) else {}
        )
        for row, values in zip(sorted(rows), table.to_pylist(), strict=True):
            found[part, row] = _entry(values, pictures.get(row))
    return Samples(_within({place: found[place] for place in places}, budget_bytes))


def _within(
    entries: Mapping[Place, dict[str, Any]], budget_bytes: int
) -> dict[Place, dict[str, Any]]:
    kept = {}
    for place, entry in entries.items():
        text = as_json({**entry, "thumb": ""}).encode()
        picture = len(entry.get("thumb", ""))
        if picture and len(text) + picture > budget_bytes:
            del entry["thumb"]
            picture = 0
        if len(text) > budget_bytes:
            break
        budget_bytes -= len(text) + picture + 2
        kept[place] = entry
    return kept


def _entry(row: Mapping[str, Any], picture: str | None) -> dict[str, Any]:
    scores = {name: _rounded(row[name]) for name in _SCORES}
    if scores["cos_simple"] is not None and scores["cos_complex"] is not None:
        scores["margin"] = _rounded(row["cos_simple"] - row["cos_complex"])
    entry = {
        "id": visible(row["id"], 40),
        "thumb": picture,
        "simple": visible(row["simple_prompt"] or ""),
        "complex": visible(row["complex_prompt"] or ""),
        "dense": visible(row["dense_caption"] or ""),
        "tags": visible(row["tags"] or ""),
        "keep": row["keep"],
        "reasons": [_reason(reason) for reason in row["reasons"] or ()],
        "scores": {name: value for name, value in scores.items() if value is not None},
        "width": row["width"],
        "height": row["height"],
        "image": row["image_status"],
        "http": row["http_status"],
        "source": visible(row["source"], 80),
        "licence": visible(row["licence"] or "", 120),
        "author": visible(row["author"] or "", 80),
        "model": visible(row["model"] or "", 80),
        "nsfw_level": visible(row["nsfw_level"] or "", 40),
        "unfit": row["nsfw_level"] in _UNFIT_LEVELS or (row["nsfw"] or 0) > _UNFIT or None,
        "link": web_link(row["page_url"]) or web_link(row["url"]),
        "similarity": _rounded(row["similarity"]),
        "kind": row["kind"],
    }
    return {key: value for key, value in entry.items() if value not in (None, [], {}, "")}


def _reason(reason: Mapping[str, Any]) -> list[Any]:
    """``[reason, value, threshold, detail]``."""
    value, threshold = _rounded(reason["value"]), _rounded(reason["threshold"])
    return [visible(reason["reason"], 60), value, threshold, visible(reason["detail"] or "", 120)]


def _rounded(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else round(value, 6)


def _thumbnails(workspace: Workspace, part: int, rows: Sequence[int]) -> dict[int, str | None]:
    """Row -> data URI. What cannot be read has no picture."""
    found: dict[int, str | None] = {}
    with contextlib.suppress(WorkspaceError):
        tables = workspace.read_rows("images", part, ["bytes"], np.array(rows), 1)
        for row, table in zip(rows, tables, strict=True):
            found[row] = thumbnail(table["bytes"][0].as_py())
    return found
