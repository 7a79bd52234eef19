"""Prompts cut into pieces that a text encoder's window holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence

Fits = Callable[[str], bool]
"""Whether the window holds a text."""


def pieces_that_fit(text: str, fits: Fits) -> list[str]:
    """The text in pieces, cut between tags, else between words.

    A single word beyond the window stays one piece, and so does a text of commas alone.
    """
    if fits(text):
        return [text]
    tags = [piece for tag in text.split(",") for piece in _words_that_fit(tag.strip(), fits)]
    return _packed([tag for tag in tags if tag], ", ", fits) or [text]


def _words_that_fit(tag: str, fits: Fits) -> list[str]:
    return [tag] if fits(tag) else _packed(tag.split(), " ", fits)


def _packed(pieces: Sequence[str], joint: str, fits: Fits) -> list[str]:
    packed = list(pieces[:1])
    for piece in pieces[1:]:
        longer = packed[-1] + joint + piece
        if fits(longer):
            packed[-1] = longer
        else:
            packed.append(piece)
    return packed


def halved_to_fit(text: str, fits: Fits) -> list[str]:
    """A text of one word, such as a sentence in Chinese, in halves until each fits."""
    if fits(text) or len(text) < 2:
        return [text]
    middle = len(text) // 2
    return [*halved_to_fit(text[:middle], fits), *halved_to_fit(text[middle:], fits)]
