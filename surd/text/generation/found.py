"""What the dialects take and give, and the little they share."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Text:
    """A text in an image file."""

    where: str
    """The place, as a person would look for it: ``PNG parameters``, ``EXIF UserComment``."""
    name: str
    """The place's own name, by which a generator is known: ``parameters``, ``UserComment``."""
    value: str


@dataclass(frozen=True, slots=True)
class Generation:
    """How an image was generated, as one text tells."""

    generator: str
    prompt: str | None
    """Empty where the generator was given no words, None where none could be found."""
    negative_prompt: str | None = None
    model: str | None = None
    """Name of the checkpoint, or its hash."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Seed, steps and the like under common names where known, and what else there is under the
    generator's own. Values as JSON has them, NaN and infinities included."""


COMMON = {
    "seed": ("seed", "Seed", "noise_seed", "used_random_seed"),
    "steps": ("steps", "Steps", "num_inference_steps", "Inference Steps"),
    "cfg_scale": (
        *("cfg_scale", "cfg", "CFG scale", "cfgscale", "cfgScale", "CFG Scale"),
        *("guidance_scale", "Guidance Scale", "scale"),
    ),
    "sampler": ("sampler", "Sampler", "sampler_name", "samplerName", "scheduler"),
    "width": ("width", "Width"),
    "height": ("height", "Height"),
}
"""surd's names of settings -> those of the generators, the first found wins."""

_COMMON_NAME = {other: name for name, others in COMMON.items() for other in others}
_SIZES = ("Size", "size", "resolution", "Resolution")
_NUMBER = re.compile(r"[+-]?(?:\d{1,30}|\d{1,30}\.\d{0,30}|\.\d{1,30})(?:[eE][+-]?\d{1,3})?")
_SIZE = re.compile(r"\s*\(?\s*(\d{1,6})\s*[x×,*]\s*(\d{1,6})\s*\)?\s*")
_MAX_DIGITS = 300
_SCALARS = (str, int, float)


def loads(text: str) -> Any:
    """JSON as generators write it: with NaN, line ends inside strings, zeros after its end.

    Raises ValueError, also for what is nested too deeply or counts too far.
    """
    try:
        return _DECODER.decode(text.strip("\0\ufeff \t\r\n"))
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) < _MAX_DIGITS else float("inf")


_DECODER = json.JSONDecoder(parse_int=_integer, strict=False)


def json_object(text: str) -> dict[str, Any] | None:
    """The JSON object that ``text`` is; None for anything else."""
    if text.lstrip("\ufeff \t\r\n")[:1] != "{":
        return None
    try:
        found = loads(text)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


def as_object(value: Any) -> dict[str, Any]:
    """``value`` where it is a JSON object, or a text that holds one; else an empty one."""
    if isinstance(value, str):
        value = json_object(value)
    return value if isinstance(value, dict) else {}


def words(value: Any) -> str | None:
    """``value`` without space around it where it is a text, else None."""
    return value.strip() if isinstance(value, str) else None


def first(fields: Mapping[str, Any], names: Iterable[str]) -> str | None:
    """The first text with words under ``names``; else an empty one, else None."""
    found = [text for name in names if (text := words(fields.get(name))) is not None]
    return next(filter(None, found), found[0] if found else None)


def join(texts: Iterable[str | None], separator: str = ", ") -> str:
    """The distinct texts that hold words, in their order."""
    return separator.join(dict.fromkeys(text for text in texts if text))


def number(value: Any) -> Any:
    """A number written as a text as the number it means, anything else as it is."""
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        plain = value.strip().lstrip("+-").isdecimal()
        return int(value) if plain else float(value)
    return value


def settings(fields: Mapping[str, Any], without: Iterable[str] = ()) -> dict[str, Any]:
    """``fields`` less those of ``without`` and empty ones, under the common names where known."""
    left_out = set(without)
    given = {
        str(k): v for k, v in fields.items() if k not in left_out and v is not None and v != ""
    }
    known: dict[str, Any] = {}
    for name in filter(given.__contains__, _SIZES):
        if match := _SIZE.fullmatch(str(given[name])[:40]):
            known |= {"width": int(match[1]), "height": int(match[2])}
            del given[name]
    named: dict[str, list[str]] = {}
    for other in _COMMON_NAME.keys() & given.keys():
        if isinstance(given[other], _SCALARS):
            named.setdefault(_COMMON_NAME[other], []).append(other)
    for name, others in COMMON.items():
        if name in named:
            other = min(named[name], key=others.index)
            known[name] = given[other] if name == "sampler" else number(given[other])
            if other != "scheduler":
                del given[other]
    return given | known


def model_name(value: Any) -> str | None:
    """The name of a model that a generator gives as a text or as an object."""
    if isinstance(value, Mapping):
        value = first(value, ("model_name", "name", "modelName", "hash", "model_hash"))
    return words(value) or None
