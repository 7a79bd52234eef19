"""Finding samples, and everything the workspace knows of one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pyarrow.compute as pc

from surd.dataset.simple_prompts import COLUMNS, Written, read_part
from surd.dataset.words import below_source, has_text, have_words
from surd.stages.filter.rules import told_number
from surd.store import edits, manual
from surd.store.aligned import parts_there, read_row
from surd.store.schema import GROUPS
from surd.store.workspace import Workspace

_NAMED = ("url", "path", "source_id")
_SHOWN = ("id", "source", *_NAMED, "prompt")
_ID_BEGINNING = re.compile(r"[0-9a-f]{6,32}")
"""Fewer digits are a word, as "bad" is; more may be one too, as "facade"."""

_OF_SIMPLE = ("cos_simple", "itm")
"""Scores of the simple prompt."""
_BEFORE = " (of the simple prompt before the edit)"


@dataclass(frozen=True)
class Match:
    """A sample that a query found, and where its row is."""

    id: str
    source: str
    prompt: str | None
    file: str | None
    """Path of its file below its source, or name in its url."""
    part: int
    row: int


def find(workspace: Workspace, query: str | None, limit: int) -> tuple[list[Match], int]:
    """Samples whose id begins with ``query``, if that has six digits or more, whose url or source
    id contains it, or that have all its words in prompts, simple or complex, or path, as ``surd
    view`` finds them: the first ``limit`` of them, and how many there are.

    Case does not matter. An exact id, url, path or source id is found alone. None: the first
    samples there are.
    """
    matches: list[Match] = []
    total = 0
    for match, exact in _candidates(workspace, query):
        if exact:
            return [match], 1
        total += 1
        if len(matches) < limit:
            matches.append(match)
        elif query is None:
            look = workspace.part_infos("samples")
            infos = (look("samples", part) for part in workspace.parts("samples"))
            return matches, sum(info.rows for info in infos if info)
    return matches, total


def _candidates(workspace: Workspace, query: str | None) -> Iterator[tuple[Match, bool]]:
    if query is None:
        for part in workspace.parts("samples"):
            table = workspace.read("samples", part, _SHOWN)
            for row, values in enumerate(table.to_pylist()):
                yield _match(values, part, row), False
        return
    begins = query.lower() if _ID_BEGINNING.fullmatch(query.lower()) else "no id"
    there = parts_there(workspace, COLUMNS)
    texts = Written.of(edits.read(workspace))
    for part in sorted(there["samples"]):
        table, simple = read_part(workspace, part, texts, there=there, also=_SHOWN)
        hit = pc.starts_with(table["id"], begins).to_numpy()
        for name in ("url", "source_id"):
            hit |= has_text(table[name], query)
        hit |= have_words(table, simple, query, ~hit)
        rows = np.flatnonzero(hit)
        for row, values in zip(rows.tolist(), table.take(rows).to_pylist(), strict=True):
            yield _match(values, part, row), query in [values[name] for name in ("id", *_NAMED)]


def _match(samples: Mapping[str, Any], part: int, row: int) -> Match:
    about = (samples["id"], samples["source"], samples["prompt"], file_name(samples))
    return Match(*about, part, row)


def file_name(samples: Mapping[str, Any]) -> str | None:
    """Of a sample's image: its path below the source where the source knows it by that, or the name
    without folders."""
    if below := below_source(samples["path"], samples["source_id"]):
        return below
    try:
        named: str = samples["path"] or urlsplit(samples["url"] or "").path
    except ValueError:  # no url
        return None
    return named.rstrip("/").replace("\\", "/").rsplit("/", 1)[-1] or None


def short(workspace: Workspace, found: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What people look for first, edits included: name -> text."""
    texts = Written.of(edits.read(workspace))
    simple = texts.simple_prompt(found)
    samples, image, clip = (found.get(group, {}) for group in ("samples", "images", "clip"))
    size = f"{image.get('width')} x {image.get('height')} px, {image.get('mime')}"
    problem = f"none: {image.get('status')}, {image.get('detail')}"
    others = [one["text"] for one in found.get("captions", {}).get("candidates") or ()]
    stale = _OF_SIMPLE if texts.unscored(found) else ()
    scores = [
        f"{name} {clip[name]:.4f}" + (_BEFORE if name in stale else "")
        for name in ("cos_simple", "cos_complex", "itm", "aesthetic", "nsfw")
        if clip.get(name) is not None
    ]
    said = {
        "id": samples["id"],
        "source": samples["source"],
        "file": samples["path"] or file_name(samples),
        "image": None if not image else size if image.get("status") == "ok" else problem,
        "simple prompt": simple,
        "other candidates": " | ".join(text for text in others if text != simple),
        "complex prompt": found.get("prompts", {}).get("complex_prompt") or samples["prompt"],
        "negative prompt": samples["negative_prompt"],
        "scores": ", ".join(scores),
        "verdict": _verdict(found.get("verdicts")),
        "author": samples["author"],
        "page": samples["page_url"],
    }
    return {name: text for name, text in said.items() if text}


def _verdict(verdict: Mapping[str, Any] | None) -> str | None:
    if not verdict:
        return None
    reasons, end = [], ""
    for reason in verdict["reasons"] or ():
        if manual.is_keep(reason) and not verdict["keep"]:
            end = "; the decision to keep it counts once that has changed"
            continue
        name = reason["reason"]
        numbers = [
            told_number(name, value) or f"{value:.4g}"
            for value in (reason["value"], reason["threshold"])
            if value is not None
        ]
        more = " against ".join(numbers) or reason["detail"]
        reasons.append(f"{name} ({more})" if more else name)
    state = "kept" if verdict["keep"] else "dropped"
    return f"{state}: {', '.join(reasons)}{end}" if reasons else state


def sample(workspace: Workspace, match: Match) -> dict[str, dict[str, Any]]:
    """Group -> the sample's row there, without the image's bytes; groups without one left out.

    Raises DamagedPartError.
    """
    columns = {
        group: [name for name in schema.names if name != "bytes"]
        for group, schema in GROUPS.items()
    }
    rows = read_row(workspace, match.part, match.row, columns)
    return {group: row for group, row in rows.items() if row}
