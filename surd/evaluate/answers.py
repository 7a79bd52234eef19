"""Whether two answers to a question about a picture mean the same."""

from __future__ import annotations

import re

from surd.text.number_words import NUMBERS

_YES_OR_NO = ("yes", "no")


def is_right(said: str, wanted: str) -> bool:
    """Whether two answers mean the same: case, articles, full stops, number words and spelling
    ("gray") aside. Where a number alone is wanted, what is counted may be named ("2 dogs"); where
    yes or no is, more may follow ("Yes, it is").

    Source: the answer processing of https://visualqa.org/evaluation.html, simplified.
    """
    given, right = _plain(said), _plain(wanted)
    if right.isdecimal():
        given = next((word for word in given.split() if word.isdecimal()), given)
    if right in _YES_OR_NO:
        given = given.partition(" ")[0]
    return given == right


def is_of_kind(said: str, wanted: str) -> bool:
    """Whether an answer is yes or no where one of them is wanted, and has a number where a number
    is; whatever else is wanted, any answer will do."""
    given, right = _plain(said).split(), _plain(wanted)
    if right in _YES_OR_NO:
        return given[:1] in (["yes"], ["no"])
    return not right.isdecimal() or any(word.isdecimal() for word in given)


def _plain(answer: str) -> str:
    words = re.findall(r"[\w'-]+", answer.lower())
    alike = {word: str(value) for value, word in enumerate(NUMBERS)} | {"gray": "grey"}
    return " ".join(alike.get(word, word) for word in words if word not in ("a", "an", "the"))
