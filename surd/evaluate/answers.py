"""Whether two answers to a question about a picture mean the same."""

from __future__ import annotations

import re

_NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def is_right(said: str, wanted: str) -> bool:
    """Whether two answers mean the same: case, articles, full stops and number words aside.

    Source: the answer processing of https://visualqa.org/evaluation.html, simplified.
    """
    return _plain(said) == _plain(wanted)


def _plain(answer: str) -> str:
    words = re.findall(r"[\w'-]+", answer.lower())
    numbers = {word: str(value) for value, word in enumerate(_NUMBERS)}
    return " ".join(numbers.get(word, word) for word in words if word not in ("a", "an", "the"))
