"""Simple prompts as they are today: at any stage of a workspace's build, edits included."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from surd.store.aligned import Columns, Parts, parts_there, read_aligned
from surd.store.edits import Edits
from surd.store.workspace import Workspace
from surd.text.prompt_edits import tags

COLUMNS: Columns = {
    "samples": ("simple_prompt",),
    "captions": ("candidates",),
    "clip": ("simple_prompt", "candidate_scores"),
}
"""What :func:`proposed` is made from."""


@dataclass(frozen=True)
class Written:
    """The edits, looked up once for many samples."""

    now: Mapping[str, str]
    ever: frozenset[str]

    @classmethod
    def of(cls, edits: Edits) -> Written:
        """Of all edits there are."""
        return cls(edits.now(), edits.ever())

    def simple_prompt(self, rows: Mapping[str, Mapping[str, Any]]) -> str | None:
        """Of a sample, given its columns by group."""
        id_ = rows["samples"]["id"]
        return self.now.get(id_) or proposed(rows, edited=id_ in self.ever)

    def unscored(self, rows: Mapping[str, Mapping[str, Any]]) -> bool:
        """Whether a sample, given its columns by group, has scores of another simple prompt than
        that of today."""
        clip = rows.get("clip") or {}
        return bool(clip) and self.simple_prompt(rows) != clip.get("simple_prompt")


def proposed(rows: Mapping[str, Mapping[str, Any]], *, edited: bool) -> str | None:
    """The simple prompt without edits: CLIP's choice, else the first candidate, else what the
    source had. Of a sample that was `edited` once, CLIP's choice is the best candidate: the one
    in its row may be the edit."""
    clip, captions = rows.get("clip") or {}, rows.get("captions") or {}
    candidates = [one["text"] for one in captions.get("candidates") or ()]
    scores = clip.get("candidate_scores")
    chosen: str | None = clip.get("simple_prompt")
    if edited:
        scored = zip(scores or (), candidates, strict=False)
        chosen = max(scored, key=lambda one: one[0], default=(0, None))[1]
    first = candidates[0] if candidates else rows["samples"].get("simple_prompt")
    return chosen or first


def simple_prompts(workspace: Workspace, edits: Edits) -> Iterator[tuple[str, str | None]]:
    """The id and the simple prompt of every sample, in the order of collection."""
    written = Written.of(edits)
    there = parts_there(workspace, COLUMNS)
    for part in sorted(there["samples"]):
        samples, simple = read_part(workspace, part, written, there=there, also=["id"])
        yield from zip(samples["id"].to_pylist(), simple.to_pylist(), strict=True)


def read_part(
    workspace: Workspace, part: int, written: Written, *, there: Parts, also: Sequence[str] = ()
) -> tuple[pa.Table, pa.ChunkedArray]:
    """Columns of a part's samples, those in `also`; and the simple prompts as they are today.
    Raises WorkspaceError."""
    columns: Columns = {"samples": also, "clip": ("simple_prompt",)}
    ids = "id" in also or bool(written.ever)
    tables = read_aligned(workspace, part, columns, there=there, with_ids=ids)
    samples, chosen = tables["samples"], tables["clip"]["simple_prompt"]
    edited = np.zeros(len(chosen), np.bool_)
    if written.ever:
        edited = pc.is_in(samples["id"], pa.array(written.ever, pa.string())).to_numpy()
    if not edited.any() and not _may_have_others(workspace, part, chosen, there):
        return samples, chosen
    tables = read_aligned(workspace, part, COLUMNS, there=there)
    return samples, _column(tables, written, edited)


def _may_have_others(
    workspace: Workspace, part: int, chosen: pa.ChunkedArray, there: Parts
) -> bool:
    """Whether candidates may be known of samples for which CLIP has chosen none: their captioning
    went well, or their source had a caption. They take ten times as long to read."""
    if not chosen.null_count:
        return False
    columns: Columns = {"samples": ("simple_prompt",), "captions": ("status",)}
    tables = read_aligned(workspace, part, columns, there=there, with_ids=False)
    went_well = pc.equal(tables["captions"]["status"], "ok")
    has_some = pc.or_kleene(went_well, pc.is_valid(tables["samples"]["simple_prompt"]))
    return bool(pc.any(pc.and_(pc.is_null(chosen), pc.fill_null(has_some, False))).as_py())


def _column(
    tables: Mapping[str, pa.Table], written: Written, edited: npt.NDArray[np.bool_]
) -> pa.ChunkedArray:
    """The simple prompts of a part, of which COLUMNS were read."""
    first = pc.list_slice(tables["captions"]["candidates"].combine_chunks(), 0, 1, 1, True)
    found = pc.coalesce(
        tables["clip"]["simple_prompt"],
        pc.struct_field(pc.list_element(first, 0), "text"),
        tables["samples"]["simple_prompt"],
    )
    if not edited.any():
        return found
    texts = found.to_pylist()
    for row in np.flatnonzero(edited):
        rows = {group: tables[group].slice(row, 1).to_pylist()[0] for group in COLUMNS}
        texts[row] = written.simple_prompt(rows)
    return pa.chunked_array([texts], pa.string())


def tag_counts(prompts: Iterable[tuple[str, str | None]]) -> list[tuple[str, int]]:
    """What stands between commas, and in how many prompts, the most frequent first; case does not
    matter, and the spelling is the first one."""
    counts: Counter[str] = Counter()
    spelling: dict[str, str] = {}
    for _, text in prompts:
        found = {tag.casefold(): tag for tag in reversed(tags(text or ""))}
        counts.update(found.keys())
        for key, tag in found.items():
            spelling.setdefault(key, tag)
    ordered = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return [(spelling[key], count) for key, count in ordered]


def candidates_of(workspace: Workspace, ids: Sequence[str]) -> dict[str, list[str]]:
    """Sample id -> the simple prompts that were proposed for it, or that its source had."""
    wanted = set(ids)
    columns = {"samples": ("simple_prompt",), "captions": ("candidates",)}
    there = parts_there(workspace, columns)
    found: dict[str, list[str]] = {}
    for part in sorted(there["samples"]):
        tables = read_aligned(workspace, part, columns, there=there)
        for sample, caption in zip(
            tables["samples"].to_pylist(), tables["captions"]["candidates"].to_pylist(), strict=True
        ):
            if sample["id"] in wanted:
                source = [sample["simple_prompt"]] if sample["simple_prompt"] else []
                found[sample["id"]] = [one["text"] for one in caption or ()] or source
    return found
