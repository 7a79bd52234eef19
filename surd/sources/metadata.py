"""What image files say of their making: texts from the carriers, read by the dialects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from surd.files.carriers.find import hidden_texts_in, texts_in
from surd.sources.sidecar import json_able
from surd.text.generation import dialects
from surd.text.generation.found import Text

MAX_RAW_CHARS = 65_536
"""Longer texts are not repeated in ``settings["raw"]``, and cut in ``NOT_UNDERSTOOD``."""
NOT_UNDERSTOOD = "not_understood"
"""Key in the settings: the texts that nothing was made of, by where they lie."""


@dataclass(frozen=True, slots=True)
class Found:
    """What one image file says of its making."""

    generator: str | None = None
    """None when no dialect understood any of the texts."""
    prompt: str | None = None
    negative_prompt: str | None = None
    model: str | None = None
    """Name of the checkpoint, or its hash."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """JSON-able: ``generator``, ``sampler``, ``seed``, ``steps``, ``cfg_scale``, ``width`` and
    ``height`` where known, what else the generator wrote under its own names; ``raw``, the texts
    that were understood or are no prompts, by where they lie, and ``not_understood``, the others
    of some length."""
    texts: tuple[Text, ...] = ()
    """All texts, understood or not."""
    prompt_from: Text | None = None
    """The text that tells the prompt."""


def read(data: bytes) -> Found:
    """What an image file says. Raises nothing but MemoryError, whatever is in it."""
    texts = texts_in(data)
    try:
        reading = dialects.read(texts)
        if reading.generation is None and (hidden := hidden_texts_in(data)):
            texts = [*texts, *hidden]
            reading = dialects.read(texts)
        return _found(tuple(texts), reading)
    except MemoryError:
        raise
    except Exception:  # a fault of a reader's on a hostile file must not end the collection
        missed = tuple(filter(dialects.is_long, texts))
        return _found(tuple(texts), dialects.Reading(None, (), missed))


def read_texts(texts: Mapping[str, str]) -> Found:
    """What texts say that lie somewhere else than in an image, by the names of their places.

    ``parameters``, ``prompt``, ``Comment`` and so on are what they are in PNG files; any other name
    has no meaning.
    """
    listed = tuple(Text(name, name, value) for name, value in texts.items())
    return _found(listed, dialects.read(listed))


def _found(texts: tuple[Text, ...], reading: dialects.Reading) -> Found:
    generation = reading.generation
    settings: dict[str, Any] = {}
    if generation is not None:
        settings |= {**generation.settings, "generator": generation.generator}
    kept = [text for text in reading.used if generation is not None or dialects.is_long(text)]
    raw = {text.where: text.value for text in kept if len(text.value) <= MAX_RAW_CHARS}
    if generation is not None or raw:
        settings["raw"] = raw
    if reading.not_understood:
        settings[NOT_UNDERSTOOD] = {
            text.where: text.value[:MAX_RAW_CHARS] for text in reading.not_understood
        }
    return Found(
        generator=generation.generator if generation else None,
        prompt=generation.prompt or None if generation else None,
        negative_prompt=generation.negative_prompt if generation else None,
        model=generation.model if generation else None,
        settings={str(key): json_able(value) for key, value in settings.items()},
        texts=texts,
        prompt_from=reading.used[0] if generation and generation.prompt else None,
    )
