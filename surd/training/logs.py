"""What a training writes down as it goes: its losses, its scores, and the pictures it draws.

Everything here may be missing, or cut off where it is being written.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypeGuard

from surd.untrusted import parse_json, read_regular

LOG_FILE = "log.jsonl"
"""A line of losses for each step."""
SCORES_FILE = "validation.jsonl"
"""A line of measures for each time that pictures were drawn."""
FOLDER = "validation"
"""``base/NNN-SEED.png`` without the adapter, ``step-000500/NNN-SEED.png`` with it as it was."""
PROMPTS_FILE = "prompts.json"
"""In that folder: the texts by number."""
BASE = "base"
LOSS = "validation_loss"
"""In the log: the loss on samples that are not learned from; a term of several is
``validation_TERM``."""

_MAX = 1e15
"""A larger number says nothing, and plots of it would end in errors."""
_MOST_NAMES = 40
Line = Mapping[str, float]
"""Of a log: ``step``, and numbers by name."""


def read_log(path: Path) -> list[Line]:
    """The whole lines of a log, by step."""
    if not path.is_file():
        return []
    lines = [
        line for text in path.read_text("utf-8", "replace").splitlines() if (line := _line(text))
    ]
    return sorted(lines, key=lambda line: line["step"])


def _line(text: str) -> Line | None:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return None
    step = values.get("step") if isinstance(values, dict) else None
    if not _is_number(step) or not 0 <= step <= _MAX:  # NaN is neither
        return None
    return {name: value for name, value in values.items() if _is_number(value)}


def finite(lines: Sequence[Line], name: str) -> list[tuple[int, float]]:
    """Step and value where there is one; a diverged loss is no number any more."""
    return [(int(line["step"]), line[name]) for line in lines if _is_finite(line.get(name))]


def _is_number(value: object) -> TypeGuard[int | float]:
    """Whether it is one, be it not finite: of a diverged loss the log says NaN."""
    if isinstance(value, float):
        return not math.isfinite(value) or abs(value) <= _MAX
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) <= _MAX


def _is_finite(value: object) -> bool:
    return _is_number(value) and math.isfinite(value)


def names_in(lines: Sequence[Line]) -> list[str]:
    """What is measured, in the order in which it comes up: the first _MOST_NAMES, since each is
    drawn, and surd writes a dozen."""
    names = dict.fromkeys(name for line in lines for name in line if name != "step")
    return list(names)[:_MOST_NAMES]


def pictures_over_time(
    run: Path, prompts: int, steps: int
) -> tuple[list[str], list[tuple[str, list[Path | None]]]]:
    """What each step is called, and of each prompt the first picture at each step.

    Of many steps the first, the last and some between, of many prompts the first `prompts`;
    prompts without any picture are left out.
    """
    folder = run / FOLDER
    places = [path for path in (folder / BASE, *sorted(folder.glob("step-*"))) if path.is_dir()]
    if len(places) > steps:
        places = [places[round(i * (len(places) - 1) / (steps - 1))] for i in range(steps)]
    rows = []
    for number, prompt in enumerate(_prompts(folder / PROMPTS_FILE)[:prompts]):
        paths = [place / f"{number:03d}-0.png" for place in places]
        pictures = [path if path.is_file() else None for path in paths]
        if any(pictures):
            rows.append((prompt, pictures))
    return [_step(place) for place in places], rows


def _prompts(path: Path) -> list[str]:
    try:
        texts = parse_json(read_regular(path))
    except (OSError, ValueError):
        return []
    return [text for text in texts if isinstance(text, str)] if isinstance(texts, list) else []


def _step(place: Path) -> str:
    number = place.name.removeprefix("step-")
    return f"step {int(number):,}" if number.isdecimal() else "without"
