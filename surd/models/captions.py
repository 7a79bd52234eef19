"""What a captioner is asked for and what it answers, whichever model it is."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from PIL import Image

Style = Literal["simple", "dense"]
"""One sentence, or a paragraph with every detail."""
QUESTIONS: dict[Style, str] = {
    "simple": "Describe this picture in one short sentence.",
    "dense": "Describe this picture in one detailed paragraph: what is in it and where, what it "
    "does, how it looks, the background, the light and the style. Say only what can be seen.",
}
"""What chat models are asked where the user asks nothing."""


_SENTENCES = re.compile(r".*[.!?][\"')\]]*(?=\s|$)", re.DOTALL)


@dataclass(frozen=True)
class Wanted:
    """How many captions of a picture, and how they are found."""

    samples: int = 4
    """Nucleus samples, beside the one caption found by beam search."""
    num_beams: int = 3
    top_p: float = 0.9
    max_new_tokens: int = 40


@dataclass(frozen=True)
class Proposal:
    """A caption as it was generated."""

    text: str
    how: str
    """``beam``, ``greedy`` or ``nucleus``."""
    is_cut: bool = field(default=False, compare=False)
    """Whether it was too long to be generated to its end, as far as that is known."""

    @property
    def whole(self) -> str:
        """Its text; of one that is cut, its whole sentences."""
        return whole_sentences(self.text) if self.is_cut else self.text


class RefusedError(Exception):
    """A picture that a model does not take, such as one of a pixel's height."""

    is_final = True
    """The same picture would be refused again."""


Proposed = Sequence[list[Proposal] | RefusedError]
"""Of each picture the proposals, or why there are none."""


def whole_sentences(text: str) -> str:
    """A text up to the end of its last sentence; empty where none ends."""
    found = _SENTENCES.match(text)
    return found[0] if found else ""


@dataclass(frozen=True)
class Captioner:
    """A loaded captioner."""

    prepare: Callable[[Image.Image], Any]
    """An RGB picture to what `propose` takes; runs in threads, ahead of the model."""
    propose: Callable[[Sequence[Any], Wanted, Sequence[int]], Proposed]
    """Prepared pictures and a seed of each to their captions, the beam's first.

    A picture's captions depend on its seed, and not on the pictures beside it.
    """
    side_px: int
    """Of the pictures the model looks at."""

    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        """One caption of each RGB picture, by greedy search. Raises RefusedError."""
        prepared = [self.prepare(image) for image in images]
        found = self.propose(prepared, Wanted(samples=0, num_beams=1), [0] * len(images))
        texts = []
        for proposals in found:
            if isinstance(proposals, RefusedError):
                raise proposals
            texts.append(proposals[0].text)
        return texts
