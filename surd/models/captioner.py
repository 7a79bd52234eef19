"""Captioning models, through transformers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from transformers import BlipForConditionalGeneration, BlipProcessor

from surd.errors import ModelError
from surd.models.names import resolve


@dataclass(frozen=True)
class Captioner:
    """A loaded captioner and its processor."""

    model: Any
    processor: Any

    @torch.inference_mode()
    def caption(self, images: Sequence[Image.Image], *, max_new_tokens: int = 40) -> list[str]:
        """One caption of each RGB picture, decoded greedily."""
        inputs = self.processor(images=list(images), return_tensors="pt")
        pixels = inputs.pixel_values.to(self.model.device, self.model.dtype)
        ids = self.model.generate(pixels, max_new_tokens=max_new_tokens)
        texts: list[str] = self.processor.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]


def load_captioner(
    name: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32
) -> Captioner:
    """The BLIP that `name` means: a hub id, a local folder, or ``demo:captioner``.

    Raises ModelError in one line.
    """
    found = resolve(name)
    try:
        processor = BlipProcessor.from_pretrained(found)
        model = BlipForConditionalGeneration.from_pretrained(found, dtype=dtype)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"captioner {name!r} cannot be loaded: {reason}") from error
    return Captioner(model.to(device).eval().requires_grad_(False), processor)
