"""What is said of an image beside its pixels: fields, captions, tags, and which is the prompt."""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, time
from decimal import Decimal
from typing import Any

from surd.text.prompt_syntax import parse
from surd.untrusted import parse_json

PROMPT_KEYS = ("prompt", "complex_prompt", "positive_prompt", "positive")
CAPTION_KEYS = ("caption", "text", "captions", "texts", "sentences", "comment")
"""The prompt where there is no other; beside a prompt, the simple prompt."""
SIMPLE_PROMPT_KEYS = ("simple_prompt", "simple", "blip_caption")
NEGATIVE_PROMPT_KEYS = ("negative_prompt", "negative", "uc")
MODEL_KEYS = ("model", "model_name", "stable_diffusion_model", "checkpoint")
TAG_KEYS = ("tags", "tag_string")
NESTED_KEYS = ("meta", "generation", "generation_data", "parameters", "sui_image_params")
"""Fields that may hold the others, as in Civitai's answers and SwarmUI's files."""

_PLAIN = frozenset({str, int, bool, type(None)})
_MAX_LIST_CHARS = 1_000_000


def json_able(value: Any, depth: int = 50) -> Any:
    """``value`` as JSON can hold it.

    NaN, infinities, bytes, and what is nested deeper than ``depth`` become null; unknown types
    their text.
    """
    if type(value) in _PLAIN:
        return value
    if isinstance(value, int):
        return value
    if isinstance(value, str):
        return str(value)
    if isinstance(value, (float, Decimal)):
        number = float(value)
        return number if math.isfinite(number) else None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return None
    if isinstance(value, Mapping):
        return {str(k): json_able(v, depth - 1) for k, v in value.items()} if depth else None
    if isinstance(value, (list, tuple)):
        return [json_able(item, depth - 1) for item in value] if depth else None
    return value.isoformat() if isinstance(value, (date, time)) else str(value)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What somebody says of an image."""

    prompt: str | None = None
    negative_prompt: str | None = None
    model: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    simple_prompt: str | None = None
    captions: tuple[str, ...] = ()
    """Plain texts, whose part in the sample :meth:`settled` decides."""
    tags: str | None = None

    def over(self, other: Sidecar) -> Sidecar:
        """This, with ``other`` where this says nothing. Captions of both are kept, and so is
        another prompt, in the settings."""
        if other is NOTHING or self is NOTHING:
            return self if other is NOTHING else other
        settings = {**other.settings, **self.settings}
        if self.prompt and other.prompt and not same_words(self.prompt, other.prompt):
            settings.setdefault("other_prompt", other.prompt)
        return Sidecar(
            self.prompt or other.prompt,
            self.negative_prompt or other.negative_prompt,
            self.model or other.model,
            settings,
            self.simple_prompt or other.simple_prompt,
            (*self.captions, *other.captions),
            self.tags or other.tags,
        )

    def settled(self) -> Sidecar:
        """With a part for every text: the prompt is the one that is called so, else the tags, else
        the first caption; the simple prompt the one that is called so, else the first caption
        that does not repeat the prompt."""
        prompt, tags, captions = self.prompt, self.tags, list(dict.fromkeys(self.captions))
        if prompt is None:
            prompt, tags = tags, None
        if prompt is None and captions:
            prompt = captions.pop(0)
        captions = [text for text in captions if prompt is None or not same_words(text, prompt)]
        simple = self.simple_prompt or (captions[0] if captions else None)
        settings = dict(self.settings)
        if tags and not same_words(tags, prompt or ""):
            settings["tags"] = tags
        rest = tuple(text for text in captions if text != simple)
        return Sidecar(prompt, self.negative_prompt, self.model, settings, simple, rest)


NOTHING = Sidecar()
"""Where nobody says anything."""


def together(fields: Sidecar, own: Sidecar, words: Sidecar) -> Sidecar:
    """What is said of an image in all: its fields come first, then what is inside of it, then the
    words of text files, which are the first to be captions."""
    said = fields.over(own).over(words)
    if words.captions:
        said = replace(said, captions=(*words.captions, *fields.captions, *own.captions))
    return said.settled()


def same_words(one: str, other: str) -> bool:
    """Whether two texts have the same words, syntax and punctuation apart."""
    return one == other or _words(one) == _words(other)


def _words(text: str) -> list[str]:
    return re.findall(r"\w+", parse(text).text.lower())


def texts_in(value: Any) -> list[str]:
    """The texts of a field or cell: one, or those of a list, also of one that is written as text.

    An item may be an object with the text inside, as in COCO's tables.
    """
    if isinstance(value, str):
        text = value.strip()
        listed = as_list(text)
        return [text] if text and listed is None else texts_in(listed)
    if isinstance(value, (list, tuple)):
        return [text for item in value for text in texts_in(item)]
    if isinstance(value, Mapping):
        return next((texts_in(value[key]) for key in ("raw", *CAPTION_KEYS) if key in value), [])
    return []


def as_list(text: str) -> list[Any] | None:
    """The list that a cell such as ``["a", "b"]`` or pandas' ``['a', 'b']`` means."""
    if not re.match(r"\[\s*[\"'{]", text) or not text.endswith("]") or len(text) > _MAX_LIST_CHARS:
        return None
    for read in (parse_json, ast.literal_eval):
        try:
            found = read(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        return found if isinstance(found, list) else None
    return None


def flattened(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a JSON object, and among them those of an object inside, such as Civitai's
    ``meta``, nested a few times."""
    rest = dict(fields)
    for _ in range(8):
        inner = [key for key in NESTED_KEYS if isinstance(rest.get(key), dict)]
        if not inner:
            break
        for key in inner:
            rest |= rest.pop(key)
    return rest


def from_fields(fields: Mapping[str, Any]) -> Sidecar:
    """What the fields of a JSON object or the cells of a row say."""
    rest = flattened(fields)
    names = {_plain(name): name for name in reversed(rest)}
    prompts = _take(rest, names, PROMPT_KEYS)
    simple = _take(rest, names, SIMPLE_PROMPT_KEYS)
    captions = [text for key in CAPTION_KEYS for text in _take(rest, names, (key,))]
    negative = _take(rest, names, NEGATIVE_PROMPT_KEYS)
    model = _take(rest, names, MODEL_KEYS)
    tagged = [names[key] for key in TAG_KEYS if key in names]
    tags = [rest.pop(name) for name in tagged if isinstance(rest[name], str)]
    return Sidecar(
        _first(prompts),
        _first(negative),
        _first(model),
        json_able(rest),
        _first(simple),
        (*prompts[1:], *simple[1:], *captions),
        _first(tag.strip() for tag in tags),
    )


def _first(texts: Iterable[str]) -> str | None:
    return next((text for text in texts if text), None)


def _plain(name: str) -> str:
    """A field's name in lower case, with ``negativePrompt`` as ``negative_prompt``."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", str(name))
    return re.sub(r"[\W_]+", "_", spaced).strip("_").lower()


def _take(fields: dict[str, Any], names: Mapping[str, str], keys: Iterable[str]) -> list[str]:
    """Remove and return the texts of the first of ``keys`` that holds any."""
    for key in keys:
        texts = texts_in(fields.get(names[key])) if key in names else []
        if texts:
            del fields[names[key]]
            return texts
    return []
