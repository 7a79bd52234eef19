"""Captioning models: BLIP by surd's own decoding, any other through transformers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from surd.errors import ModelError
from surd.models.names import resolve
from surd.models.quiet import hush


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
    """``beam`` or ``nucleus``."""


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


def load_captioner(
    name: str,
    *,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    prompt: str | None = None,
) -> Captioner:
    """The captioner that `name` means: a hub id, a local folder, or ``demo:captioner``.

    BLIP is decoded by :mod:`surd.models.blip`; every other model of transformers'
    image-text-to-text kind (BLIP-2, Florence-2, Qwen-VL, ...) by its own ``generate``, asked with
    `prompt`. Raises ModelError in one line.
    """
    from transformers import AutoConfig

    found = resolve(name)
    hush()
    try:
        kind = AutoConfig.from_pretrained(found).model_type
        if kind == "blip":
            return _blip(found, torch.device(device), dtype)
        from surd.models.image_text import load_image_text

        return load_image_text(found, torch.device(device), dtype, prompt)
    except ModelError:
        raise
    except Exception as error:  # a folder of anything else makes transformers raise many kinds
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"captioner {name!r} cannot be loaded: {reason}") from error


def _blip(found: str, device: torch.device, dtype: torch.dtype) -> Captioner:
    from transformers import BlipForConditionalGeneration, BlipProcessor

    from surd.models.blip import beam_search, encode, nucleus_sample

    processor = BlipProcessor.from_pretrained(found)
    model, loaded = BlipForConditionalGeneration.from_pretrained(
        found, dtype=dtype, output_loading_info=True
    )
    if loaded["missing_keys"]:  # transformers makes up what is not there
        raise ModelError(
            f"captioner {found!r} is not a BLIP that captions: it has no "
            f"{sorted(loaded['missing_keys'])[0]}"
        )
    model.to(device).eval().requires_grad_(False)

    def prepare(image: Image.Image) -> torch.Tensor:
        pixels: torch.Tensor = processor.image_processor(image, return_tensors="pt").pixel_values[0]
        return pixels

    def texts(ids: torch.Tensor) -> list[str]:
        decoded = processor.tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in decoded]

    @torch.inference_mode()
    def propose(
        pictures: Sequence[torch.Tensor], wanted: Wanted, seeds: Sequence[int]
    ) -> list[list[Proposal]]:
        context = encode(model, torch.stack(list(pictures)).to(device, dtype))
        beams = beam_search(model, context, wanted.num_beams, wanted.max_new_tokens)
        found = [[Proposal(text, "beam")] for text in texts(beams)]
        if wanted.samples:
            drawn = nucleus_sample(
                model,
                context,
                wanted.samples,
                wanted.top_p,
                seeds=seeds,
                max_new_tokens=wanted.max_new_tokens,
            )  # [b, samples, words]
            for proposals, ids in zip(found, drawn, strict=True):
                proposals += [Proposal(text, "nucleus") for text in texts(ids)]
        return found

    return Captioner(prepare, propose, model.config.vision_config.image_size)
