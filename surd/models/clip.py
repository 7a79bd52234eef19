"""CLIP models, through open_clip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from torch.nn import functional

from surd.errors import ModelError
from surd.models.names import resolve


@dataclass(frozen=True)
class Clip:
    """A loaded CLIP: both towers, its preprocessing and its tokenizer."""

    model: Any
    preprocess: Callable[[Image.Image], torch.Tensor]
    """An RGB picture to ``[3, h, w]`` float32, resized, cropped and normalised."""
    tokenize: Callable[[Sequence[str]], torch.Tensor]
    """Texts to ``[b, context]`` int64, cut off at the window."""
    device: torch.device

    @torch.inference_mode()
    def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """``[b, 3, h, w]`` as `preprocess` gives them to ``[b, d]`` float32 of unit length."""
        moved = pixels.to(self.device, self.dtype)
        return functional.normalize(self.model.encode_image(moved).float(), dim=-1)

    def embed_images(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """RGB pictures to ``[b, d]`` float32 of unit length."""
        return self.embed_pixels(torch.stack([self.preprocess(image) for image in images]))

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
        """Texts to ``[b, d]`` float32 of unit length."""
        tokens = self.tokenize(texts).to(self.device)
        return functional.normalize(self.model.encode_text(tokens).float(), dim=-1)

    @property
    def dtype(self) -> torch.dtype:
        """The precision the weights are in."""
        parameter: torch.Tensor = next(self.model.parameters())
        return parameter.dtype


def load_clip(name: str, *, device: str = "cpu", precision: str = "fp32") -> Clip:
    """The CLIP that `name` means.

    `name` is ``architecture/pretrained`` of open_clip's list (``ViT-B-32/laion2b_s34b_b79k``),
    ``hf-hub:org/repo``, a local folder with ``open_clip_config.json`` and weights, or
    ``demo:clip``. `precision` is fp32, fp16 or bf16. Raises ModelError in one line.
    """
    found = resolve(name)
    if Path(found).is_dir():
        architecture, pretrained = f"local-dir:{found}", None
    elif found.startswith("hf-hub:"):
        architecture, pretrained = found, None
    else:
        architecture, _, tag = found.partition("/")
        if not tag:
            raise ModelError(
                f"CLIP model {name!r} names no weights; give architecture/weights such as "
                "ViT-B-32/laion2b_s34b_b79k, hf-hub:org/repo, or a folder"
            )
        pretrained = tag
    try:
        model, _, preprocess = open_clip.create_model_and_transforms(
            architecture, pretrained=pretrained, precision=precision, device=device
        )
        tokenizer = open_clip.get_tokenizer(architecture)
    except Exception as error:  # open_clip raises many kinds, and so do the hub's libraries
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"CLIP model {name!r} cannot be loaded: {reason}") from error
    model.eval().requires_grad_(False)
    return Clip(model, preprocess, tokenizer, torch.device(device))
