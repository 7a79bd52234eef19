"""What a captioner is asked for and what it answers, whichever model it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image

QUESTION = "Describe this picture in one short sentence."
"""What chat models are asked where the user asks nothing."""


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


@dataclass(frozen=True)
class Captioner:
    """A loaded captioner."""

    prepare: Callable[[Image.Image], Any]
    """An RGB picture to what `propose` takes; runs in threads, ahead of the model."""
    propose: Callable[[Sequence[Any], Wanted, Sequence[int]], list[list[Proposal]]]
    """Prepared pictures and a seed of each to their captions, the beam's first.

    A picture's captions depend on its seed, and not on the pictures beside it.
    """
    side_px: int
    """Of the pictures the model looks at."""

    def caption(self, images: Sequence[Image.Image]) -> list[str]:
        """One caption of each RGB picture, by greedy search."""
        prepared = [self.prepare(image) for image in images]
        found = self.propose(prepared, Wanted(samples=0, num_beams=1), [0] * len(images))
        return [proposals[0].text for proposals in found]
