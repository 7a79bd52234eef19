"""The text of AUTOMATIC1111's web UI, also written by Forge, SD.Next, sd.cpp and sites.

The prompt, a line that begins with ``Negative prompt:``, and a line of ``name: value`` pairs
(AUTOMATIC1111, modules/infotext_utils.py). Any of the three may be absent, and pairs may go on over
more lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from surd.text.generation import found
from surd.text.generation.found import Generation

NEGATIVE = "Negative prompt:"
KNOWN = frozenset(
    """
    steps, sampler, schedule type, scheduler, cfg scale, seed, size, model, model hash, version,
    clip skip, created date, civitai resources, civitai metadata, denoising strength,
    distilled cfg scale, guidance, guidance scale, vae, vae hash, hires upscale, hires steps,
    hires upscaler, lora hashes, ti hashes, hashes, ensd, rng, eta, variation seed, batch size,
    batch pos, postprocess upscale by, postprocess upscaler, face restoration, module 1, app,
    backend, pipeline, parser, template,
    negative template, quality, aspectratio, width, height, cfg, refiner, workflow, engine
    """.replace("\n    ", " ")
    .strip()
    .split(", ")
)
"""Names of pairs, in lower case: two of them make a line one of settings."""

_STEPS = re.compile(r"[ \t]*Steps:[ \t]*\d{1,9}[ \t]*(?:$|([,|])[ \t]*(?:$|[^\W\d_][^:,|]{0,60}:))")
"""``Steps: 20, Sampler: …``, SD.Next's ``Steps: 20| Sampler: …``, or nothing but the steps."""
_NEGATIVE_LINE = re.compile(rf"^[ \t]*{NEGATIVE}", re.M)
_BETWEEN = re.compile(r"[\s,|]*")
_NAME = re.compile(r"([^\W_][^:,|\"{}\[\]\n]{0,60}):[ \t]*")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"(?=[ \t]*(?:[,|\n]|\Z))', re.S)
_BRACKET = re.compile(r'[{}\[\]"]|\\.', re.S)
_LINES = 8
"""Without a line of steps, settings are looked for in so many last lines."""

_GENERATORS = (
    (re.compile(r"^surd\b", re.I), "surd"),
    (re.compile(r"^f\d|forge|^neo", re.I), "Forge"),
    (re.compile(r"stable-diffusion\.cpp|sd\.cpp", re.I), "stable-diffusion.cpp"),
    (re.compile(r"comfyui", re.I), "ComfyUI"),
    (re.compile(r"ruined", re.I), "RuinedFooocus"),
    (re.compile(r"fooocus", re.I), "Fooocus"),
    (re.compile(r"sd\.?next|vladmandic", re.I), "SD.Next"),
    (re.compile(r"easy ?diffusion", re.I), "Easy Diffusion"),
    (re.compile(r"swarm", re.I), "SwarmUI"),
)
"""What ``Version`` or ``App`` says -> who wrote it."""


def read(text: str, *, plain: bool = False) -> Generation | None:
    """Read an infotext; ``plain``: a text of nothing but words is a prompt, too."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").strip("\0 \n\t")
    start = _settings_start(text)
    head, tail = text[:start], text[start:]
    negative_at = _NEGATIVE_LINE.search(head)
    if not (tail or negative_at or plain):
        return None
    prompt, negative_prompt = head, None
    if negative_at:
        prompt = head[: negative_at.start()]
        negative_prompt = _NEGATIVE_LINE.sub("", head[negative_at.end() :]).strip()
    pairs = _pairs(tail)
    return Generation(
        generator=_generator(pairs),
        prompt=prompt.strip(),
        negative_prompt=negative_prompt or None,
        model=_model(pairs),
        settings=found.settings(pairs),
    )


def write(prompt: str, negative_prompt: str, settings: Mapping[str, object]) -> str:
    """The text of a picture; `settings` begin with ``Steps``. :func:`read` gives them back.

    Both prompts are a line each, for a line of theirs could be taken for another field; to text
    encoders a line break is a space.
    """
    lines = [" ".join(prompt.split())]
    if negative_prompt.strip():
        lines.append(f"{NEGATIVE} {' '.join(negative_prompt.split())}")
    lines.append(", ".join(f"{name}: {_told(str(value))}" for name, value in settings.items()))
    return "\n".join(lines)


def _told(value: str) -> str:
    """In quotes where it would be read as more than one value, or as another."""
    return json.dumps(value, ensure_ascii=False) if re.search(r'[,:|\n\r"{}\[\]]', value) else value


def _settings_start(text: str) -> int:
    """Where the settings begin; the end of the text when there are none."""
    offset = 0
    lines = text.split("\n")
    for line in lines:
        if line.lstrip()[:6] == "Steps:" and _STEPS.match(line):
            return offset
        offset += len(line) + 1
    # No steps: the first of the last lines from which on all is settings.
    start = stop = len(text)
    for line in reversed(lines[-_LINES:]):
        stop -= len(line)
        if line.strip():
            if not _is_settings(line):
                break
            start = stop
        stop -= 1
    return start


def _is_settings(line: str) -> bool:
    """Two pairs with names that are known, the first of the line among them."""
    names = [name.lower() for name in _pairs(line)]
    return names[:1] != [] and names[0] in KNOWN and sum(name in KNOWN for name in names) >= 2


def _pairs(text: str) -> dict[str, Any]:
    """``name: value`` pairs, the first of each name. A value in quotes or brackets may hold any."""
    steps = _STEPS.match(text)
    end = re.compile(r"[|\n]" if steps and steps[1] == "|" else r"[,\n]")
    pairs: dict[str, Any] = {}
    position, unclosed = 0, False
    while position < len(text):
        at = _BETWEEN.match(text, position).end()  # type: ignore[union-attr]  # any text matches
        name = _NAME.match(text, at)
        at = at if name is None else name.end()
        stop = None
        opener = text[at : at + 1]
        if name and opener == '"' and (quoted := _QUOTED.match(text, at)):
            stop = quoted.end()
        elif name and opener in ("{", "[") and not unclosed:
            stop = _closing(text, at)
            unclosed = stop is None  # and so is every later one, which need not be looked for
        if stop is None:
            ended = end.search(text, at if name else at + 1)
            stop = ended.start() if ended else len(text)
        if name:
            pairs.setdefault(name[1].strip(), _value(text[at:stop].strip()))
        position = stop
    return pairs


def _value(text: str) -> Any:
    """A value in brackets or quotes as the JSON it is, any other as it is written."""
    if text[:1] in ("{", "[", '"'):
        try:
            return found.loads(text)
        except ValueError:
            return text[1:-1] if text[:1] == text[-1:] == '"' and len(text) > 1 else text
    return text


def _closing(text: str, position: int) -> int | None:
    """Behind the bracket that closes the one at ``position``, or None; strings are passed over."""
    depth, in_string = 0, False
    for match in _BRACKET.finditer(text, position):
        mark = match[0]
        if mark == '"':
            in_string = not in_string
        elif not in_string and mark in "{[":
            depth += 1
        elif not in_string and mark in "}]":
            depth -= 1
            if depth == 0:
                return match.end()
    return None


def _generator(pairs: dict[str, Any]) -> str:
    told = " ".join(str(pairs.get(name, ""))[:200] for name in ("Version", "App", "Engine"))
    for expression, name in _GENERATORS:
        if expression.search(told.strip()):
            return name
    if "Civitai resources" in pairs and "Version" not in pairs:
        return "Civitai"
    return "AUTOMATIC1111"


def _model(pairs: dict[str, Any]) -> str | None:
    resources = pairs.get("Civitai resources")
    models = (
        [some for some in resources if isinstance(some, dict)]
        if isinstance(resources, list)
        else []
    )
    checkpoints = [some for some in models if some.get("type") == "checkpoint"]
    names = [pairs.get("Model"), *map(found.model_name, checkpoints), pairs.get("Model hash")]
    return next((name for name in map(found.words, names) if name), None)
