"""What a text file beside an image is: parameters, named lines, tags, a prompt, or a caption."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from surd.sources import metadata
from surd.sources.sidecar import Sidecar, from_fields, texts_in

_NEGATIVE = re.compile(r"^[ \t]*Negative prompt:", re.MULTILINE)
_SETTINGS = re.compile(
    r"^[ \t]*(?:Steps: ?\d+|(?:Sampler|Seed|CFG scale|Size|Model|Model hash): ?[^,\n]+),",
    re.MULTILINE,
)
_SETTING = re.compile(r"([A-Za-z][\w /+-]{0,60}): ?(\"(?:[^\"\\]|\\.)*\"|[^,\n]*)")
_LINE = re.compile(r"[ \t]*([A-Za-z][\w ()/.-]{0,40}?)[ \t]*:[ \t]*(.*)")
_PROMPT_LINE = re.compile(r"(?:(?:original|positive|full)[ _]?)?prompts?", re.IGNORECASE)
_LONG_LINE = re.compile(r"(?:\w+[ _]?)?prompts?", re.IGNORECASE)
"""Names of lines whose text may go on in the next."""
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
        return _infotext(text) or Sidecar(prompt=text)
    if called in ("caption", "tags"):
        return Sidecar(captions=(text,)) if called == "caption" else Sidecar(tags=text)
    if text[0] in "{[":
        with suppress(ValueError, RecursionError):
            return read_json(json.loads(text))
    return _named_lines(text) or _infotext(text) or _plain(text)


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
    texts = {
        key: text if isinstance(text, str) else json.dumps(text)
        for key, text in value.items()
        if (key == "parameters" and isinstance(text, str))
        or (key in ("prompt", "workflow") and isinstance(text, dict))
    }
    if said.prompt is None and texts:
        inside = _generation(texts) or _infotext(texts.get("parameters", "")) or Sidecar()
        said = said.over(inside)
    return said


def _generation(texts: Mapping[str, str]) -> Sidecar | None:
    """What the reader of metadata inside images makes of such texts."""
    with suppress(Exception):  # it answers hostile bytes with anything
        info = metadata._parse(texts)
        if info is not None:
            found = metadata._generation(info, texts)
            settings = {k: v for k, v in found.settings.items() if k != "raw"}
            return Sidecar(found.prompt, found.negative_prompt, found.model, settings)
    return None


def _infotext(text: str) -> Sidecar | None:
    """The prompt, ``Negative prompt:`` and settings that webui writes; None where it is neither."""
    settings = next(_SETTINGS.finditer(text), None)
    end = settings.start() if settings else len(text)
    negative = _NEGATIVE.search(text, 0, end)
    if settings is None and negative is None:
        return None
    prompt = text[: negative.start() if negative else end].strip()
    found = _generation({"parameters": text}) or Sidecar(
        settings={key: value for key, value in _SETTING.findall(text[end:]) if value}
    )
    return Sidecar(
        prompt or None,
        (text[negative.end() : end].strip() if negative else "") or None,
        found.model or found.settings.get("Model"),
        found.settings,
    )


def _named_lines(text: str) -> Sidecar | None:
    """Lines such as ``Prompt: a cat`` and ``Seed: 5``; None where the first is no prompt."""
    fields: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if not fields and line.strip() and not (match and _LONG_LINE.fullmatch(match[1])):
            return None
        goes_on = bool(_LONG_LINE.fullmatch(name))
        if match and not (goes_on and _looks_like_words(match[1], match[2])):
            name = match[1]
            fields.setdefault(name, match[2].strip())
        elif name and line.strip():
            fields[name] = f"{fields[name]}\n{line.strip()}".strip()
    prompt = next((name for name in fields if _PROMPT_LINE.fullmatch(name)), None)
    return from_fields({"prompt": fields.pop(prompt), **fields}) if prompt else None


def _looks_like_words(name: str, value: str) -> bool:
    """Whether a line with a colon goes on with a prompt, as ``note: a cat, a dog``."""
    return name.islower() and not _LONG_LINE.fullmatch(name) and "," in value


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
