"""Everything about one sample, as its page shows it."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, field, replace
from typing import Any

from PIL import Image

from surd.dataset.inspect import file_name
from surd.dataset.simple_prompts import proposed
from surd.files.images import MAX_PIXELS, ImageProblem, decode, read_header
from surd.pages.text import number, visible, web_link
from surd.stages.filter.rules import MISSING, REASONS, told_number
from surd.store import edits
from surd.store.aligned import read_row
from surd.store.manual import REASON
from surd.store.schema import GROUPS
from surd.view.gallery import hand_of, label_of, state_of
from surd.view.index import Index
from surd.view.state import Snapshot, View

_HEAVY = ("bytes", "image_embedding", "simple_embedding", "complex_embedding")
_PROVENANCE = ("source", "source_id", "author", "licence", "nsfw_level", "model", "created_at")
_SHOWN_BY_BROWSERS = frozenset(
    f"image/{name}" for name in ("jpeg", "png", "webp", "gif", "bmp", "avif")
)
_MAX_CHARS = 20_000
_ID_CHARS = 32


@dataclass(frozen=True)
class Reason:
    """One entry of a verdict, in words."""

    name: str
    meaning: str
    value: str
    threshold: str
    detail: str | None


@dataclass(frozen=True)
class Candidate:
    """A simple prompt that was proposed."""

    text: str | None
    how: str | None
    score: str
    chosen: bool


@dataclass(frozen=True)
class Detail:
    """One sample in full. Text is made visible, not escaped: the templates do that."""

    id: str
    file: str | None
    simple: str | None
    edited: bool
    proposed: str | None
    """The simple prompt without edits."""
    unscored: bool
    """Whether the scores are of another simple prompt."""
    history: list[edits.Change]
    """The edits, the last one first."""
    complex: str | None
    dense: str | None
    tags: str | None
    raw: str | None
    """The prompt as the source gave it, where that is not the complex prompt."""
    negative: str | None
    has_image: bool
    no_image: str
    """Why there is none."""
    size: str
    state: str
    label: str
    hand: str
    keepable: bool
    """Whether there is anything to keep."""
    scores: list[tuple[str, str]]
    reasons: list[Reason] = field(default_factory=list)
    candidates: list[Candidate] = field(default_factory=list)
    provenance: list[tuple[str, str]] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    twin: str = ""
    """Id of the sample that is kept of the same picture, where it is another."""
    everything: list[tuple[str, list[tuple[str, str]]]] = field(default_factory=list)
    """Group -> column and value, for who wants to know it all."""


def detail(view: View, now: Snapshot, position: int) -> Detail:
    """Read all that the workspace knows of a sample, but vectors and bytes."""
    place = now.index.place(position)
    columns = {
        group: [name for name in schema.names if name not in _HEAVY]
        for group, schema in GROUPS.items()
    }
    rows = read_row(view.rows, *place, columns)
    samples, images, prompts, clip = (rows[g] for g in ("samples", "images", "prompts", "clip"))
    reasons = [_reason(entry) for entry in rows["verdicts"].get("reasons") or ()]
    state = state_of(now, position)
    written = now.written
    id_ = samples["id"]
    twins = [reason.detail for reason in reasons if reason.name == "duplicate"]
    return Detail(
        id=id_,
        file=visible(file_name(samples)),
        simple=_text(written.simple_prompt(rows)),
        edited=id_ in written.now,
        unscored=written.unscored(rows),
        proposed=_text(proposed(rows, edited=id_ in written.ever)),
        history=_history(view, id_) if id_ in written.ever else [],
        complex=_text(prompts.get("complex_prompt")),
        dense=_text(rows["dense"].get("dense_caption")),
        tags=_text(rows["tags"].get("tags")),
        raw=_text(samples["prompt"])
        if samples["prompt"] != prompts.get("complex_prompt")
        else None,
        negative=_text(samples["negative_prompt"]),
        has_image=images.get("status") == "ok",
        no_image=visible(images.get("detail") or images.get("status")) or "not downloaded yet",
        size=f"{images.get('width')} x {images.get('height')} px, {images.get('mime')}",
        state=state,
        label=label_of(now, position, state),
        hand=hand_of(now, position),
        keepable=not any(reason.name in MISSING for reason in reasons),
        scores=[
            (name, f"{clip[name]:.4f}")
            for name in ("cos_simple", "cos_complex", "itm", "aesthetic", "nsfw")
            if clip.get(name) is not None
        ],
        reasons=[reason for reason in reasons if reason.name != REASON],
        candidates=_candidates(rows["captions"], clip, written.simple_prompt(rows)),
        provenance=[
            (name, visible(str(samples[name])) or "")
            for name in _PROVENANCE
            if samples[name] is not None
        ],
        links=_links(samples),
        twin=(twins[0] or "")[-_ID_CHARS:] if twins else "",
        everything=[(group, _columns(row)) for group, row in rows.items() if row],
    )


def picture(view: View, index: Index, position: int) -> tuple[bytes, str] | None:
    """An image's bytes and the media type found in them, of formats that browsers do not show as
    WebP; None where it has no image to show."""
    place = index.place(position)
    rows = read_row(view.rows, *place, {"samples": (), "images": ("bytes",)})
    data = rows["images"].get("bytes")
    if not data:
        return None
    try:
        mime = read_header(data, max_pixels=MAX_PIXELS).mime
        if mime in _SHOWN_BY_BROWSERS:
            return data, mime
        file = io.BytesIO()
        Image.fromarray(decode(data)).save(file, "WEBP", quality=90)
        return file.getvalue(), "image/webp"
    except (ImageProblem, OSError, ValueError):
        return None


def _reason(entry: dict[str, Any]) -> Reason:
    return Reason(
        name=entry["reason"],
        meaning=REASONS.get(entry["reason"], ""),
        value=told_number(entry["reason"], entry["value"]) or number(entry["value"]),
        threshold=told_number(entry["reason"], entry["threshold"]) or number(entry["threshold"]),
        detail=visible(entry["detail"]),
    )


def _history(view: View, sample_id: str) -> list[edits.Change]:
    changes = reversed(edits.history(view.workspace, sample_id))
    return [
        replace(
            one,
            by=visible(one.by, 100),
            what=visible(one.what, 200),
            text=_text(one.text),
            undone=one.undone and replace(one.undone, by=visible(one.undone.by, 100)),
        )
        for one in changes
    ]


def _candidates(
    captions: dict[str, Any], clip: dict[str, Any], simple: str | None
) -> list[Candidate]:
    found = captions.get("candidates") or []
    scores = clip.get("candidate_scores") or [None] * len(found)
    return [
        Candidate(
            text=_text(one["text"]),
            how=visible(one["how"]),
            score=number(None) if score is None else f"{score:.4f}",
            chosen=one["text"] == simple,
        )
        for one, score in zip(found, scores, strict=False)
    ]


def _links(samples: dict[str, Any]) -> list[tuple[str, str]]:
    links = [("page", web_link(samples["page_url"])), ("image", web_link(samples["url"]))]
    return [(name, url) for name, url in links if url]


def _columns(row: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (name, visible(_written(value), _MAX_CHARS) or "")
        for name, value in row.items()
        if value is not None and name != "id"
    ]


def _written(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _text(text: str | None) -> str | None:
    return visible(text, _MAX_CHARS)
