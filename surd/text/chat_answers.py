"""What chat models say, without their thoughts and what they like to wrap an answer in."""

from __future__ import annotations

import re

from surd.untrusted import parse_json

MAX_CHARS = 10_000
"""Of what can be an answer in a wrapping; a hostile one could be wrapped millions of times."""
_THOUGHTS, _THOUGHT = "<think>", "</think>"
_FENCE = re.compile(r"```(?:[a-z]+(?=\s))?(.*?)(?:```)?", re.DOTALL | re.IGNORECASE)
_LABEL = re.compile(
    r"(\**)(?:image )?(?:caption|description|answer|prompt)(?: ?:\1|\1 ?:)\s*(?=\S)", re.IGNORECASE
)
_AROUND = (("**", "**"), ('"', '"'), ("\u201c", "\u201d"))


def without_thoughts(text: str) -> str:
    """What comes after a model's thoughts; nothing where they do not come to an end."""
    said = text.rpartition(_THOUGHT)[2].strip()
    return "" if said.startswith(_THOUGHTS) else said


def unwrapped(answer: str) -> str:
    """An answer without the code fence, the label ("Caption:"), the quotes or asterisks around all
    of it; of a JSON object with one text, the text. Others stay as they are, and so do answers
    longer than ``MAX_CHARS``."""
    text = answer.strip()
    if len(text) > MAX_CHARS:
        return text
    while (inner := _inner(text)) != text:
        text = inner
    return text


def _inner(text: str) -> str:
    if found := _FENCE.fullmatch(text):
        text = found[1].strip()
    if text.startswith("{"):
        text = _only_text(text)
    if label := _LABEL.match(text):
        text = text[label.end() :]
    for left, right in _AROUND:
        within = text.removeprefix(left).removesuffix(right)
        is_around = len(within) == len(text) - len(left) - len(right)
        if is_around and left not in within and right not in within:
            text = within.strip()
    return text


def _only_text(text: str) -> str:
    try:
        value = parse_json(text)
    except ValueError:
        return text
    values = value.values() if isinstance(value, dict) else ()
    texts = [one for one in values if isinstance(one, str)]
    return texts[0].strip() if len(texts) == 1 else text
