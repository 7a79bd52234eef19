"""InvokeAI: ``invokeai_metadata`` since 3, ``sd-metadata`` of 2, the ``Dream`` command before.

Until 2, negative words stand in square brackets inside the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from surd.text.generation import found
from surd.text.generation.found import Generation

_PROMPTS = ("positive_prompt", "positive_style_prompt")
_NEGATIVE_PROMPTS = ("negative_prompt", "negative_style_prompt")
_OWN = ("generation_mode", "app_version", "rand_device", "positive_style_prompt", "regions")
_BRACKETS = re.compile(r"(?<!\\)\[([^\[\]]*)\]")
_FLAG = re.compile(r"(?<=\s)-(\w+|-\w+)\s+(\S+)")
_FLAGS = {"s": "steps", "S": "seed", "W": "width", "H": "height", "C": "cfg_scale", "A": "sampler"}


def read(fields: Mapping[str, Any], *, certain: bool = False) -> Generation | None:
    """Read the object of version 3 and later, or that of version 2."""
    if isinstance(fields.get("image"), Mapping) and ("prompt" in fields["image"]):
        return _version_2(fields, fields["image"])
    if not certain and not ("positive_prompt" in fields and any(name in fields for name in _OWN)):
        return None
    regions = list(_regions(fields))
    prompts = [found.words(fields.get(name)) for name in _PROMPTS]
    if prompts == [None, None] and not regions:
        return None
    negatives = [found.words(fields.get(name)) for name in _NEGATIVE_PROMPTS]
    return Generation(
        generator="InvokeAI",
        prompt=found.join([*prompts, *(prompt for prompt, _ in regions)], "\n"),
        negative_prompt=found.join([*negatives, *(n for _, n in regions)], "\n") or None,
        model=found.model_name(fields.get("model")),
        settings=found.settings(fields, (*_PROMPTS, *_NEGATIVE_PROMPTS)),
    )


def _regions(fields: Mapping[str, Any]) -> Iterator[tuple[str | None, str | None]]:
    """Prompts of regions: of version 5's canvas, and of version 4's control layers."""
    canvas = found.as_object(fields.get("canvas_v2_metadata"))
    layers = found.as_object(fields.get("control_layers"))
    for regions in (canvas.get("regionalGuidance"), layers.get("layers"), fields.get("regions")):
        for region in regions if isinstance(regions, list) else []:
            if isinstance(region, Mapping) and region.get("isEnabled") is not False:
                yield (
                    found.first(region, ("positivePrompt", "positive_prompt", "prompt")),
                    found.first(region, ("negativePrompt", "negative_prompt")),
                )


def _version_2(fields: Mapping[str, Any], image: Mapping[str, Any]) -> Generation | None:
    prompt = image["prompt"]
    if isinstance(prompt, list):
        texts = [p.get("prompt") if isinstance(p, Mapping) else p for p in prompt]
        prompt = found.join(found.words(text) for text in texts)
    if not isinstance(prompt, str):
        return None
    positive, negative = split(prompt)
    outer = {k: v for k, v in fields.items() if k != "image"}
    return Generation(
        generator="InvokeAI",
        prompt=positive,
        negative_prompt=negative or None,
        model=found.first(fields, ("model_weights", "model_hash")) or None,
        settings=found.settings({**outer, **image}, ("prompt",)),
    )


def read_dream(text: str) -> Generation | None:
    """Read ``"a duck [blurry]" -s 20 -S 42``."""
    quoted = re.match(r'\s*"((?:[^"\\]|\\.)*)"', text)
    if quoted is None:
        return None
    positive, negative = split(quoted[1].replace('\\"', '"'))
    rest = " " + " ".join(text[quoted.end() :].split())
    pairs = {_FLAGS.get(name, name.strip("-")): value for name, value in _FLAG.findall(rest)}
    settings = found.settings({name: found.number(value) for name, value in pairs.items()})
    return Generation("InvokeAI", positive, negative or None, settings=settings)


def split(prompt: str) -> tuple[str, str]:
    """The words outside the square brackets, and those inside."""
    negative = found.join(piece.strip(" ,") for piece in _BRACKETS.findall(prompt))
    pieces = [piece.strip(" ,") for piece in _BRACKETS.split(prompt)[::2]]
    return ", ".join(piece for piece in pieces if piece), negative
