"""Who says whether a picture shows what its prompt asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import torch
from PIL import Image

from surd.evaluate.prompt import Question
from surd.models.memory import AtOnce

if TYPE_CHECKING:
    from surd.models.answers import Vqa

Judge = Callable[[Sequence[Image.Image], Sequence[Sequence[Question]]], list[list[str | None]]]
"""RGB pictures and the questions about each to the answers; None where there is none."""
Found = TypeVar("Found")
_PICTURES_REMEMBERED = 4096


def exact_judge() -> Judge:
    """Reads the demo's pictures by image analysis alone.

    A question is the name of an attribute, of a scene or of a pair. A picture is analysed once,
    however often it is asked about.
    """
    from surd.demo.judge import judge, read_pair
    from surd.demo.scenes import PAIR_ATTRIBUTES

    @lru_cache(maxsize=_PICTURES_REMEMBERED)
    def reading(pixels: bytes, shape: tuple[int, ...], of_a_pair: bool) -> object:
        read = read_pair if of_a_pair else judge
        return read(np.frombuffer(pixels, np.uint8).reshape(shape))

    def answer(image: Image.Image, question: str) -> str:
        pixels = np.asarray(image)  # [h, w, 3]
        read = reading(pixels.tobytes(), pixels.shape, question in PAIR_ATTRIBUTES)
        return str(getattr(read, question, None))

    def answers(
        images: Sequence[Image.Image], questions: Sequence[Sequence[Question]]
    ) -> list[list[str | None]]:
        return [
            [answer(image, asked.question) for asked in some]
            for image, some in zip(images, questions, strict=True)
        ]

    return answers


@dataclass(frozen=True)
class VqaJudge:
    """A visual question answering model as a judge."""

    model: Vqa

    def __call__(
        self, images: Sequence[Image.Image], questions: Sequence[Sequence[Question]]
    ) -> list[list[str | None]]:
        """Its answers."""

        def answered(pairs: Sequence[tuple[Image.Image, Question]]) -> Sequence[str | None]:
            return self.model.answers(*_columns(pairs))

        return self._each(answered, images, questions)

    def probabilities(
        self, images: Sequence[Image.Image], questions: Sequence[Sequence[Question]]
    ) -> list[list[float]]:
        """How likely it finds each answer that is wanted. Raises NoProbabilitiesError."""

        def likely(pairs: Sequence[tuple[Image.Image, Question]]) -> list[float]:
            wanted = [asked.answer for _, asked in pairs]
            return self.model.probabilities(*_columns(pairs), wanted)

        return self._each(likely, images, questions)

    def _each(
        self,
        work: Callable[[Sequence[tuple[Image.Image, Question]]], Sequence[Found]],
        images: Sequence[Image.Image],
        questions: Sequence[Sequence[Question]],
    ) -> list[list[Found]]:
        """What `work` finds of each picture's questions, as many at a time as the model takes."""
        pairs = [(image, q) for image, some in zip(images, questions, strict=True) for q in some]
        pieces = AtOnce(self.model.at_once or max(1, len(pairs))).each(work, pairs, _too_large)
        stream = chain(*pieces)
        return [list(islice(stream, len(some))) for some in questions]


def vqa_judge(name: str, device: torch.device, dtype: torch.dtype) -> VqaJudge:
    """Asks a visual question answering model. Raises ModelError."""
    from surd.models.vqa import load_vqa

    return VqaJudge(load_vqa(name, device=device, dtype=dtype))


def _columns(
    pairs: Sequence[tuple[Image.Image, Question]],
) -> tuple[list[Image.Image], list[str]]:
    return [image for image, _ in pairs], [asked.question for _, asked in pairs]


def _too_large(pair: tuple[Image.Image, Question]) -> str:
    return (
        "not enough memory to ask even one question about a picture; name a smaller model with "
        "--vqa, or one on a server"
    )
