"""Taking the known tics of captioners out of a caption."""

from __future__ import annotations

import re

from surd.text.chat_answers import MAX_CHARS, unwrapped

_TICS = re.compile(r"\b(?:arafed|araffed|araffe|araffes|arafe|araffy|arafes)\b\s*", re.IGNORECASE)
_OPENINGS = re.compile(
    r"^(?:there(?:'s| is| are| was| were)|this is|it(?:'s| is)|here (?:is|are))\s+", re.IGNORECASE
)
_APART = re.compile(
    r"(?<=\w) (?:(')(?= (?:s|t|d|m|re|ve|ll|clock)\b)|(-)) (?=\w)| (?=[.,;:!?](?: |$))"
)
"""What decoding BERT's tokens leaves between a word and its punctuation: "a kitten ' s nose"."""
_LETTERS = r"[\w'-]{1,60}"
"""No more, since a word may begin at each hyphen of a longer one."""
_REPEATED = re.compile(
    rf"\b((?:{_LETTERS}[ ,]+){{0,5}}{_LETTERS})(?:[ ,]+(?:and )?\1\b)+", re.IGNORECASE
)
_WORD = rf"(?!and\b){_LETTERS}"
_STUTTER = re.compile(rf"\b((?:{_WORD} ){{0,5}}{_WORD})(?: \1\b)+", re.IGNORECASE)
"""Repeated without a comma or an "and", which nobody counts by."""
_NUMBER = r"(?:an?|one|two|three|four|five|six|seven|eight|nine|ten|\d+)\b"
_COUNTED = re.compile(
    rf"\b({_NUMBER}(?: (?!{_NUMBER}){_WORD}){{1,4}})(?:, \1\b)*(?:,? and \1\b)+", re.IGNORECASE
)
_GOES_ON = re.compile(
    r"$|[.,;:!?]| (?:\w+ing|and|or|on|in|at|of|with|by|to|from|for|near|next|beside|behind|"
    r"before|under|over|above|below|inside|outside|around|against|along|through|between|among|"
    r"together|that|who|which|while|are|were|is|was|both|each|all|sit|stand|lie|run|play|walk|"
    r"fly|swim|look|sleep|eat|hold|wear|have|jump|ride)\b",
    re.IGNORECASE,
)
"""What follows things that are counted; where another word does, an adjective was repeated."""
_MOST_COUNTED = 4
"""Repeated more often, nothing is counted: the model went round in circles."""
_ARTICLE = re.compile(r"\b(an?)\s+(?=(\w))", re.IGNORECASE)


def clean_caption(raw: str) -> str:
    """The caption without made-up words, "there is", words or phrases said again and again, and
    what chat models wrap it in.

    "there is a araffe dog dog on a a lawn" becomes "a dog on a lawn"; "a dog and a dog" is two dogs
    and stays. Without capitals, as BLIP writes, "a kitten ' s nose" becomes "a kitten's nose". May
    come out empty. Only the white space of a text longer than
    ``MAX_CHARS`` is cleaned.
    """
    if len(raw) > MAX_CHARS:
        return " ".join(raw.split())
    text = _cleaned(raw)
    while (again := _cleaned(text)) != text:
        text = again
    return text


def _cleaned(raw: str) -> str:
    text = " ".join(unwrapped(raw).split())
    if text == text.lower():
        text = _APART.sub(lambda found: found[1] or found[2] or "", text)
    without = " ".join(_TICS.sub("", text).split())
    tic_gone, text = without != text, _OPENINGS.sub("", without)
    while (shorter := _said_once(text)) != text:
        text = shorter
    if tic_gone:  # the article before it was chosen for it
        text = _ARTICLE.sub(_with_article, text)
    return text.strip(" ,.;:-")


def _said_once(text: str) -> str:
    text = _STUTTER.sub(r"\1", text)
    pieces, end = [], 0
    for found in _COUNTED.finditer(text):
        copies = len(re.findall(rf"\b{re.escape(found[1])}\b", found[0], re.IGNORECASE))
        if _GOES_ON.match(text, found.end()):
            said = found[0] if copies <= _MOST_COUNTED else found[1]
            pieces += [_REPEATED.sub(r"\1", text[end : found.start()]), said]
            end = found.end()
    return "".join([*pieces, _REPEATED.sub(r"\1", text[end:])])


def _with_article(found: re.Match[str]) -> str:
    article = "an" if found[2].lower() in "aeiou" else "a"
    return (article.capitalize() if found[1][0].isupper() else article) + " "
