"""NovelAI: a JSON ``Comment``, the prompt in ``Description`` and the model in ``Source``.

Since version 4 the comment also holds the prompt, and one caption for each character.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from surd.text.generation import found
from surd.text.generation.found import Generation

_OWN = ("uc", "v4_prompt", "request_type", "n_samples")
_HASH = re.compile(r"\s+[0-9A-F]{6,10}$")


def read(fields: Mapping[str, Any], around: Mapping[str, str]) -> Generation | None:
    """Read the comment; ``around``: the other texts of the file by their names."""
    if "c" in fields or not any(name in fields for name in _OWN):
        return None
    prompt = _captions(fields.get("v4_prompt")) or found.words(fields.get("prompt"))
    negative = _captions(fields.get("v4_negative_prompt")) or found.words(fields.get("uc"))
    source = " ".join(around.get("Source", "")[:200].split())
    return Generation(
        generator="NovelAI",
        prompt=prompt or found.words(around.get("Description")) or prompt,
        negative_prompt=negative or None,
        model=_HASH.sub("", source) or None,
        settings=found.settings(
            fields, ("prompt", "uc", "v4_prompt", "v4_negative_prompt", "signed_hash")
        ),
    )


def is_novelai(around: Mapping[str, str]) -> bool:
    """Whether the texts around say that NovelAI wrote them."""
    told = [around.get(name, "")[:100] for name in ("Software", "Source", "Title")]
    return told[0].strip() == "NovelAI" or any(
        text.startswith(("NovelAI", "AI generated image")) for text in told
    )


def _captions(prompt: Any) -> str | None:
    """The base caption and those of the characters, each on its line."""
    caption = prompt.get("caption") if isinstance(prompt, Mapping) else None
    if not isinstance(caption, Mapping):
        return None
    characters = caption.get("char_captions")
    texts = [
        found.words(character.get("char_caption"))
        for character in (characters if isinstance(characters, list) else [])
        if isinstance(character, Mapping)
    ]
    return found.join([found.words(caption.get("base_caption")), *texts], "\n")
