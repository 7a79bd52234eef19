"""Reads simple sentences back to what they say, whatever words and templates they are made of."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from surd.demo.scenes import ATTRIBUTES, Group, Pair, Reading
from surd.demo.sentences import plural
from surd.demo.words import (
    ACTION_WORDS,
    ARRANGEMENT_WORDS,
    COLOR_WORDS,
    COUNT_WORDS,
    OBJECTS,
    OPENINGS,
    ORDERED_PAIRS,
    PAIRS,
    SHAPE_WORDS,
    UNHEARD_COLORS,
    UNHEARD_SHAPES,
)

_CONTRAST = re.compile(
    r",? (?:and not|not|never|no|rather than|instead of) [^,]*$"
    r"|^not .*? but |^(?:instead of|rather than) [^,]*, "
)
_LEADS = ("the colour of", "coloured like", "the same colour as")
"""What stands before a thing that is known for its colour."""


def read_sentence(text: str) -> Reading:
    """Reads a sentence about one group of things, in any word order.

    What follows "not", "instead of" and the like is not said of the scene. An attribute that is
    not said, or said in two ways that differ, is None. One thing is "single" whether that is said
    or not. "a" counts one thing only before a noun in the singular and where nothing else counts.
    """
    said: dict[str, set[Any]] = {}
    affirmed = _CONTRAST.sub("", text.lower().rstrip("."))
    for phrase in _phrases().findall(affirmed):
        for attribute, value in _lexicon()[phrase]:
            said.setdefault(attribute, set()).add(value)
    if "count" not in said and said.get("number") == {"one"} and "article" in said:
        said["count"] = {1}
    if said.get("count") == {1}:
        said["arrangement"] = {"single"}
    return Reading(
        **{name: next(iter(said[name])) for name in ATTRIBUTES if len(said.get(name, ())) == 1}
    )


def read_pair_sentence(text: str) -> tuple[Pair, bool] | None:
    """The pair that a sentence speaks of, and whether it says which group is to the left.

    Where it does not, the group that comes first in the sentence is taken for the left one. None
    for a sentence about anything else.
    """
    plain = text.lower().rstrip(".")
    for ordered, template in _pair_templates():
        found = template.fullmatch(plain)
        groups = [_read_group(found[name]) for name in "ab"] if found else []
        if groups and groups[0] is not None and groups[1] is not None:
            return Pair(groups[0], groups[1]), ordered
    return None


def _read_group(text: str) -> Group | None:
    if not _group_pattern().fullmatch(text):
        return None
    said = read_sentence(text)
    assert said.count is not None and said.color is not None and said.shape is not None
    return Group(said.count, said.color, said.shape)


@cache
def _group_pattern() -> re.Pattern[str]:
    """How many, what colour, what."""
    phrases: dict[str, list[str]] = {"count": ["an", "a"], "color": [], "shape": []}
    for phrase, said in _lexicon().items():
        for attribute, _ in said:
            phrases.get(attribute, []).append(re.escape(phrase))
    return re.compile(" ".join(f"(?:{'|'.join(some)})" for some in phrases.values()))


@cache
def _pair_templates() -> tuple[tuple[bool, re.Pattern[str]], ...]:
    """Whether each says an order, and what it matches."""
    holes = {"a": "(?P<a>.+)", "b": "(?P<b>.+)", "be": "(?:is|are)"}
    openings = "(?:" + "|".join(map(re.escape, OPENINGS.of("all"))) + ")"
    return tuple(
        (ordered, re.compile(one.format(**holes, opening=openings)))
        for ordered, table in ((True, ORDERED_PAIRS), (False, PAIRS))
        for one in table.of("all")
    )


@cache
def _lexicon() -> dict[str, tuple[tuple[str, object], ...]]:
    """What each phrase says, as (attribute, value) pairs; openings say nothing."""
    lexicon: dict[str, tuple[tuple[str, object], ...]] = dict.fromkeys(OPENINGS.of("all"), ())
    for count, count_words in COUNT_WORDS.items():
        for phrase in (*count_words.of("all"), str(count)):
            lexicon[phrase] = (("count", count),)
    for colors in (COLOR_WORDS, UNHEARD_COLORS):
        for color, color_words in colors.items():
            lexicon |= dict.fromkeys(color_words.of("all"), (("color", color),))
    for color, things in OBJECTS.items():
        phrases = [f"{lead} {thing.lower()}" for lead in _LEADS for thing in things.of("all")]
        lexicon |= dict.fromkeys(phrases, (("color", color),))
    for shapes in (SHAPE_WORDS, UNHEARD_SHAPES):
        for shape, shape_words in shapes.items():
            for noun in shape_words.of("all"):
                lexicon[noun] = (("shape", shape), ("number", "one"))
                lexicon[plural(noun)] = (("shape", shape), ("number", "many"))
    for place, place_words in ARRANGEMENT_WORDS.items():
        lexicon |= dict.fromkeys(place_words.of("all"), (("arrangement", place),))
    for action, action_words in ACTION_WORDS.items():
        lexicon |= dict.fromkeys(action_words.of("all"), (("action", action),))
    lexicon |= dict.fromkeys(("a", "an"), (("article", "a"),))
    return lexicon


@cache
def _phrases() -> re.Pattern[str]:
    """Matches the longest phrase of the lexicon at each place."""
    longest_first = sorted(_lexicon(), key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b")
