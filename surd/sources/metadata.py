"""Generation parameters out of one image file's bytes, without decoding a pixel.

The library sd-parsers knows what AUTOMATIC1111 and Forge, ComfyUI, InvokeAI, NovelAI and Fooocus
write. Its parsers are given the texts found by :mod:`surd.sources.image_texts`, mended where they
would lose the prompt or their time.
"""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any

from sd_parsers import ParserManager
from sd_parsers.data import Generators, PromptInfo

from surd.sources import comfyui
from surd.sources.image_texts import texts_in
from surd.sources.sidecar import json_able

MAX_RAW_CHARS = 65_536
"""Longer texts are not repeated in ``settings["raw"]``."""

_NEGATIVE = "Negative prompt:"
_NUMBERS = ("seed", "steps", "cfg_scale", "width", "height")


@dataclass(frozen=True, slots=True)
class Generation:
    """How an image was generated, as its file tells."""

    generator: str
    prompt: str | None
    """ComfyUI may have several: the distinct positive prompts of all samplers, longest first,
    joined by a comma. InvokeAI's pieces around ``[negative]`` words are joined in their order."""
    negative_prompt: str | None
    model: str | None
    """Name of the first sampler's checkpoint, or its hash."""
    settings: Mapping[str, Any]
    """JSON-able: ``generator``, ``sampler``, ``seed``, ``steps``, ``cfg_scale``, ``width`` and
    ``height`` where known, what else the generator wrote under its own names, and ``raw``, the
    texts themselves. Of several samplers the first one in the graph."""


def read(data: bytes) -> Generation | None:
    """What a PNG, JPEG or WebP file says of its making; None when nothing, or nothing legible."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            texts = texts_in(data)
            info = _parse(texts)
        return _generation(info, texts) if info is not None else None
    except Exception:  # hostile bytes make Pillow raise anything from SyntaxError to MemoryError
        return None


def _parse(texts: Mapping[str, str]) -> PromptInfo | None:
    """The first of the library's parsers that understands the texts."""
    if not texts:
        return None
    prepared = _prepare(texts)
    for parser in _manager().managed_parsers:
        with suppress(Exception):  # a parser may stumble over another generator's texts
            return parser.parse(dict(prepared))
    return None


@cache
def _manager() -> ParserManager:
    return ParserManager()


# --- texts as the library can follow them ------------------------------------------------------


def _prepare(texts: Mapping[str, str]) -> dict[str, Any]:
    """The texts, mended where the library's parsers lose the prompt or their time."""
    prepared: dict[str, Any] = dict(texts)
    if "parameters" in texts:
        # A second "Negative prompt:" is an error to the library, a hundred "Hashes:" a trap.
        head, mark, tail = texts["parameters"].partition(_NEGATIVE)
        prepared["parameters"] = head + mark + tail.replace(_NEGATIVE, "")
        if texts["parameters"].count("Hashes:") > 100:
            del prepared["parameters"]
    for keyword in {"Dream", "Source"} & texts.keys():
        # The library's expressions backtrack over runs of spaces.
        prepared[keyword] = re.sub(r"\s{100,}", " ", texts[keyword])
    with suppress(Exception):
        # InvokeAI 4 renamed model_name to name.
        fields = json.loads(texts["invokeai_metadata"])
        fields["model"].setdefault("model_name", fields["model"]["name"])
        prepared["invokeai_metadata"] = json.dumps(fields)
    with suppress(Exception):
        prepared["prompt"], links = comfyui.mended(json.loads(texts["prompt"]))
        prepared["workflow"] = {"links": links}
    return prepared


# --- what the library found, as surd says it ---------------------------------------------------


def _generation(info: PromptInfo, texts: Mapping[str, str]) -> Generation:
    longest_first = info.generator is Generators.COMFYUI
    models = [sampler.model for sampler in info.samplers if sampler.model is not None]
    names = [name for model in models for name in (model.name, model.hash) if _is_words(name)]
    return Generation(
        generator=info.generator.value,
        prompt=_join((p.value for s in info.samplers for p in s.prompts), longest_first),
        negative_prompt=_join(
            (p.value for s in info.samplers for p in s.negative_prompts), longest_first
        ),
        model=names[0] if names else None,
        settings=_settings(info, texts),
    )


def _is_words(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _join(prompts: Iterable[Any], longest_first: bool) -> str | None:
    distinct = list(dict.fromkeys(str(prompt) for prompt in prompts if _is_words(prompt)))
    if longest_first:
        distinct.sort(key=len, reverse=True)
    return ", ".join(distinct) or None


def _settings(info: PromptInfo, texts: Mapping[str, str]) -> dict[str, Any]:
    """Settings under common names, with numbers as numbers whatever the generator wrote."""
    settings = {k: v for k, v in info.metadata.items() if not re.search(r'["{}\[\]]', str(k))}
    for sampler in info.samplers[:1]:
        settings |= {**sampler.parameters, "sampler": sampler.name}
    if "noise_seed" in settings:
        settings.setdefault("seed", settings["noise_seed"])
    settings = {**_size(settings), **settings}
    settings |= {name: _number(settings[name]) for name in _NUMBERS if name in settings}
    settings["generator"] = info.generator.value
    settings["raw"] = {k: text for k, text in texts.items() if len(text) <= MAX_RAW_CHARS}
    return {str(key): json_able(value) for key, value in settings.items()}


def _size(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Width and height from "512x768" or "(512, 768)", or from ComfyUI's empty latent image."""
    for name in ("Size", "size", "resolution"):
        if match := re.fullmatch(r"\(?(\d{1,6})\D{1,3}(\d{1,6})\)?", str(settings.get(name))):
            return {"width": match[1], "height": match[2]}
    for node_type, nodes in settings.items():
        if node_type.startswith("Empty") and "Latent" in node_type and isinstance(nodes, list):
            return {name: nodes[0][name] for name in ("width", "height") if name in nodes[0]}
    return {}


def _number(value: Any) -> Any:
    """A number written as a string as the number it means, anything else as it is."""
    for convert in (int, float):
        with suppress(ValueError):
            return convert(value) if isinstance(value, str) else value
    return value
