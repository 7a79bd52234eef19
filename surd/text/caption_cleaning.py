"""Taking BLIP's known tics out of a caption."""

from __future__ import annotations

import re

_TICS = re.compile(r"\b(?:arafed|araffed|araffe|araffes|arafe|araffy|arafes)\b\s*", re.IGNORECASE)
_OPENINGS = re.compile(
    r"^(?:there(?:'s| is| are| was| were)|this is|it(?:'s| is)|here (?:is|are))\s+", re.IGNORECASE
)
_REPEATED = re.compile(r"\b((?:[\w'-]+[ ,]+){0,5}[\w'-]+)(?:[ ,]+(?:and )?\1\b)+", re.IGNORECASE)
_ARTICLE = re.compile(r"\b(an?)\s+(?=(\w))", re.IGNORECASE)


def clean_caption(raw: str) -> str:
    """The caption without made-up words, "there is", and words or phrases said again and again.

    "there is a araffe dog dog on a a lawn" becomes "a dog on a lawn". May come out empty.
    """
    text = " ".join(raw.split())
    without = " ".join(_TICS.sub("", text).split())
    tic_gone, text = without != text, _OPENINGS.sub("", without)
    while (shorter := _REPEATED.sub(r"\1", text)) != text:
        text = shorter
    if tic_gone:  # the article before it was chosen for it
        text = _ARTICLE.sub(_with_article, text)
    return text.strip(" ,.;:-")


def _with_article(found: re.Match[str]) -> str:
    article = "an" if found[2].lower() in "aeiou" else "a"
    return (article.capitalize() if found[1][0].isupper() else article) + " "
