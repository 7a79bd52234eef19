"""What judges of pictures are asked and what they answer, whichever model it is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from PIL import Image

from surd.errors import ModelError

Answers = Callable[[Sequence[Image.Image], Sequence[str]], Sequence[str | None]]
"""RGB pictures and a question about each to short answers; None where a server gives none."""
Probabilities = Callable[[Sequence[Image.Image], Sequence[str], Sequence[str]], list[float]]
"""RGB pictures, and a question about each with an answer, to the probabilities of the answers."""

_SHORTLY = "Answer with one word or number."
_IN_ONE_WORD = "Answer in one word."
_AT_ONCE = 16


class NoProbabilitiesError(ModelError):
    """A judge that says what it sees, but not how sure it is."""


@dataclass(frozen=True)
class Vqa:
    """A loaded judge of pictures."""

    answers: Answers
    probabilities: Probabilities
    """Raises NoProbabilitiesError where the model gives none."""
    at_once: int | None = _AT_ONCE
    """Questions for one call; None: as many as there are."""

    def __call__(
        self, images: Sequence[Image.Image], questions: Sequence[str]
    ) -> Sequence[str | None]:
        """The answers."""
        return self.answers(images, questions)


def shortly(question: str) -> str:
    """A question as chat models are asked for an answer of one word."""
    return f"{question} {_SHORTLY}"


def in_one_word(question: str) -> str:
    """A question as it is asked where probabilities count; one that ends in a full stop says itself
    how it is to be answered."""
    return question if question.endswith(".") else f"{question} {_IN_ONE_WORD}"
