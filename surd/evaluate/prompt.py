"""A sentence to draw, and the questions that tell whether a picture shows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Question:
    """What a visual question answering model is asked about a picture, and should answer."""

    question: str
    answer: str
    needs: tuple[int, ...] = ()
    """Which of the prompt's questions must be answered right for this one to have a meaning."""


@dataclass(frozen=True)
class Prompt:
    """A sentence to draw, and how to tell whether the picture shows it."""

    text: str
    kind: str
    """What results are grouped by."""
    questions: tuple[Question, ...] = ()
    complex: str | None = None
    """Another prompt of the same content, of tags and in the style of prompt writers."""
    about: str | None = None
    """What it shows, where several prompts show the same."""

    @property
    def scene(self) -> str:
        """What it shows."""
        return self.about or self.text


def texts_of(prompts: Iterable[Prompt]) -> list[str]:
    """The different texts, in their order."""
    return list(dict.fromkeys(prompt.text for prompt in prompts))


def scenes_of(prompts: Iterable[Prompt]) -> list[str]:
    """What each of the different texts shows, in their order."""
    return list({prompt.text: prompt.scene for prompt in prompts}.values())


def limited(prompts: Sequence[Prompt], texts: int | None) -> list[Prompt]:
    """The prompts of the first so many texts; None: all."""
    kept = set(texts_of(prompts)[:texts])
    return [prompt for prompt in prompts if prompt.text in kept]


def ask(prompt: Prompt) -> tuple[Question, ...]:
    """The prompt's own questions; else one yes/no question over the whole of it.

    That one question is VQAScore's (Lin et al. 2024, https://arxiv.org/abs/2404.01291). Raises
    nothing.
    """
    return prompt.questions or (Question(f'does this picture show "{prompt.text}"?', "yes"),)
