"""Captions from any image-text-to-text model of transformers, by its own ``generate``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from transformers import LogitsProcessor, LogitsProcessorList

from surd.errors import ModelError
from surd.models.blip.sampling import draw, nucleus, uniforms
from surd.models.captions import Captioner, Proposal, Proposed, RefusedError, Style, Wanted
from surd.models.questions import question_for
from surd.models.vlm import Vlm, load_vlm

_SIDE_PX = 768
_REFUSALS = (ValueError, ArithmeticError, LookupError)
"""What processors raise for pictures that are too small or too long for their patches."""
_TOP_K = 50
_BY_CHANCE = {"do_sample": True, "num_beams": 1, "temperature": 1.0, "top_k": 0, "top_p": 1.0}
"""Said in full: where nothing is said, the model's own generation_config.json decides. Qwen-VL's
draws the likeliest word every time, Florence-2's searches three beams."""


def load_image_text(
    found: str,
    device: torch.device,
    dtype: torch.dtype,
    prompt: str | None,
    style: Style = "simple",
) -> Captioner:
    """BLIP-2, Florence-2, Qwen-VL and their like, whole batches at a time.

    A model with a chat template is asked `prompt` (or what :mod:`surd.models.questions` has for it)
    as a user would; any other gets it as it stands. Raises OSError or ValueError where the model
    cannot be loaded, ModelError where it cannot be asked for the `style`.
    """
    vlm = load_vlm(found, device, dtype)
    asked = question_for(found, vlm.kind, style, is_chat=vlm.is_chat)
    if style == "dense" and not (prompt or asked.text):
        raise ModelError(
            f"captioner {found!r} has no chat template to be asked for a dense caption with; set "
            "caption.dense.model to a chat model, or caption.dense.prompt to words that it "
            "continues"
        )
    text = vlm.asked(asked.text if prompt is None else prompt, asked.system)

    def propose(pictures: Sequence[Image.Image], wanted: Wanted, seeds: Sequence[int]) -> Proposed:
        if not pictures:
            return []
        try:
            inputs = vlm.inputs(pictures, [text] * len(pictures))
        except _REFUSALS as error:  # one of them, and the others are to have their captions
            if len(pictures) == 1:
                return [RefusedError(f"the model takes no such picture: {error}")]
            half = len(pictures) // 2
            return [
                *propose(pictures[:half], wanted, seeds[:half]),
                *propose(pictures[half:], wanted, seeds[half:]),
            ]
        return proposed(inputs, wanted, seeds)

    def proposed(inputs: Any, wanted: Wanted, seeds: Sequence[int]) -> list[list[Proposal]]:
        prefix = vlm.read(inputs)
        length = {"max_new_tokens": wanted.max_new_tokens}
        beams = {"num_beams": wanted.num_beams, "do_sample": False}
        best = vlm.write(inputs, 1, prefix, **beams, **length)
        found = [
            [Proposal(words, "beam", is_cut)]
            for words, is_cut in zip(
                vlm.texts(inputs, best),
                vlm.cut(inputs, best, wanted.max_new_tokens),
                strict=True,
            )
        ]
        if wanted.samples:
            drawn = _samples(vlm, inputs, prefix, wanted, seeds)
            for number, proposals in enumerate(found):
                own = drawn[number * wanted.samples : (number + 1) * wanted.samples]
                proposals += [Proposal(words, "nucleus") for words in own]
        return found

    return Captioner(lambda image: image, propose, _SIDE_PX)


def _samples(vlm: Vlm, inputs: Any, prefix: Any, wanted: Wanted, seeds: Sequence[int]) -> list[str]:
    chance = _Chance(seeds, wanted, vlm.model.device)
    devices = [vlm.model.device] if vlm.model.device.type == "cuda" else []
    with torch.random.fork_rng(devices):  # there is no choice left to it, but it takes a number
        ids = vlm.write(
            inputs,
            wanted.samples,
            prefix,
            **_BY_CHANCE,
            max_new_tokens=wanted.max_new_tokens,
            logits_processor=LogitsProcessorList([chance]),
        )
    return vlm.texts(inputs, ids)


class _Chance(LogitsProcessor):  # type: ignore[misc]
    """Draws each answer's words by nucleus sampling with random numbers of its own.

    Leaves one word of each row, so a picture's answers do not depend on those beside it.
    """

    def __init__(self, seeds: Sequence[int], wanted: Wanted, device: torch.device) -> None:
        numbers = torch.from_numpy(uniforms(seeds, wanted.samples, wanted.max_new_tokens))
        self._numbers = numbers.flatten(0, 1).to(device)  # [b * k, words]
        self._top_p = wanted.top_p
        self._before = 0

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Logits ``[b * k, v]`` with all words but the drawn one at -inf."""
        probabilities, words = nucleus(scores.float()[:, None], self._top_p, _TOP_K)
        chosen = draw(probabilities, words, self._numbers[:, self._before, None])  # [b * k, 1]
        self._before += 1
        return torch.full_like(scores, -torch.inf).scatter(1, chosen, 0.0)
