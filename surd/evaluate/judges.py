"""Who says whether a picture shows what its prompt asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

import numpy as np
import torch
from PIL import Image

from surd.evaluate.prompt import Question

Judge = Callable[[Sequence[Image.Image], Sequence[Sequence[Question]]], list[list[str]]]
"""RGB pictures and the questions about each to the answers."""

_BATCH = 16


def exact_judge() -> Judge:
    """Reads the demo's pictures by image analysis alone; a question is an attribute's name."""
    from surd.demo.judge import judge

    def answers(
        images: Sequence[Image.Image], questions: Sequence[Sequence[Question]]
    ) -> list[list[str]]:
        readings = [judge(np.asarray(image)) for image in images]
        return [
            [str(getattr(reading, asked.question)) for asked in some]
            for reading, some in zip(readings, questions, strict=True)
        ]

    return answers


def vqa_judge(name: str, device: torch.device, dtype: torch.dtype) -> Judge:
    """Asks a visual question answering model. Raises ModelError."""
    from surd.models.vqa import load_vqa

    model = load_vqa(name, device=device, dtype=dtype)

    def answers(
        images: Sequence[Image.Image], questions: Sequence[Sequence[Question]]
    ) -> list[list[str]]:
        pairs = [
            (image, asked.question)
            for image, some in zip(images, questions, strict=True)
            for asked in some
        ]
        said: list[str] = []
        for first in range(0, len(pairs), _BATCH):
            some_images, some_questions = zip(*pairs[first : first + _BATCH], strict=True)
            said += model(some_images, some_questions)
        stream = zip(pairs, said, strict=True)
        return [[answer for _, answer in islice(stream, len(some))] for some in questions]

    return answers
