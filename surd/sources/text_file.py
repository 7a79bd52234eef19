"""What a text file beside an image is: parameters, named lines, tags, a prompt, or a caption."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from typing import Any

from surd.sources.sidecar import Sidecar, from_fields, json_able, texts_in
from surd.text.generation import dialects
from surd.text.generation.found import Generation
from surd.untrusted import parse_json

_SYNTAX = re.compile(
    r":[ ]?(?:\d+(?:\.\d*)?|\.\d+)[ ]?\)|<\w+:[^<>\n]+>|\(\(|\b(?:BREAK|AND)\b|__\w+__"
)
_TAG = re.compile(r"\S+(?: \S+){0,2}")
_GRAMMAR = re.compile(
    r"\b(?:an?|the|is|are|in|on|at|of|with|and|by|over|under|near|its|his|her)\b", re.IGNORECASE
)


def read_text(text: str, called: str | None = None) -> Sidecar:
    """What a text says. ``called`` is what its file is called: prompt, caption or tags."""
    text = text.strip()
    if not text:
        return Sidecar()
    if called == "prompt":
        return _written(dialects.read_text(text)) or Sidecar(prompt=text)
    if called in ("caption", "tags"):
        return Sidecar(captions=(text,)) if called == "caption" else Sidecar(tags=text)
    if text[0] in "{[":
        with suppress(ValueError):
            return read_json(parse_json(text))
    return _written(dialects.read_text(text)) or _plain(text)


def read_json(value: Any) -> Sidecar:
    """What the JSON of one image says: an object, or a list of texts or with one object in it.

    Raises ValueError for anything else.
    """
    if isinstance(value, list) and len(value) == 1 and isinstance(value[0], dict):
        value = value[0]
    if isinstance(value, list) and value and texts_in(value):
        return Sidecar(captions=tuple(texts_in(value)))
    if not isinstance(value, dict):
        raise ValueError(f"expected a JSON object, not {type(value).__name__}")
    said = from_fields(value)
    generation = dialects.read_object(value)
    infotext = value.get("parameters")
    if generation is None and isinstance(infotext, str):
        generation = dialects.read_text(infotext)
    written = _written(generation)
    if written is None or (generation and generation.generator == "unknown" and said.prompt):
        return said
    return written.over(replace(said, prompt=None))


def _written(generation: Generation | None) -> Sidecar | None:
    """What a generator wrote, as it is read inside images; None where there is nothing of it."""
    if generation is None:
        return None
    settings = {**generation.settings, "generator": generation.generator}
    return Sidecar(
        generation.prompt or None,
        generation.negative_prompt,
        generation.model,
        json_able(settings),
    )


def _plain(text: str) -> Sidecar:
    if _SYNTAX.search(text):
        return Sidecar(prompt=text)
    pieces = [piece.strip() for piece in text.replace("\n", ",").split(",") if piece.strip()]
    tags = len(pieces) >= 3 and all(
        _TAG.fullmatch(piece) and not _GRAMMAR.search(piece) for piece in pieces
    )
    return (
        Sidecar(tags=text) if tags or re.fullmatch(r"\w+_\w+", text) else Sidecar(captions=(text,))
    )
