"""PickScore: how much people may like a picture for its prompt (https://arxiv.org/abs/2305.01569)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from PIL import Image
from torch.nn import functional

from surd.errors import ModelError
from surd.models.hub import loading
from surd.models.quiet import hush

PickScore = Callable[[Sequence[Image.Image], Sequence[str]], list[float]]
"""Pairs of RGB picture and prompt to CLIP's logits, about 15 to 25."""
PROCESSOR = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"
"""Of the model that PickScore was made from; its own repository has none."""
_OWN = ("preprocessor_config.json", "processor_config.json")
"""Beside a model that has a processor, by earlier and today's versions of transformers."""
_AT_ONCE = 16


def load_pickscore(
    name: str, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> PickScore:
    """The PickScore model of a hub id or in a folder: a CLIP of transformers, whose processor may
    lie beside it. Raises ModelError in one line."""
    from transformers import AutoConfig, CLIPModel, CLIPProcessor

    with loading("PickScore model", name) as found:
        hush()
        kind = AutoConfig.from_pretrained(found).model_type
        if kind != "clip":
            raise ModelError(f"PickScore model {name!r} is a {kind}, not a CLIP")
        model, loaded = CLIPModel.from_pretrained(found, dtype=dtype, output_loading_info=True)
        if loaded["missing_keys"]:  # transformers makes up what is not there
            raise ModelError(f"PickScore model {name!r} has no {sorted(loaded['missing_keys'])[0]}")
    has_own = any(Path(found, name).is_file() for name in _OWN)
    mend = "put the processor's files beside the model"
    with loading("PickScore's processor", found if has_own else PROCESSOR, mend=mend) as place:
        processor = CLIPProcessor.from_pretrained(place)
    model.to(device).eval().requires_grad_(False)
    window = model.config.text_config.max_position_embeddings

    @torch.inference_mode()
    def some_scores(images: Sequence[Image.Image], texts: Sequence[str]) -> list[float]:
        inputs = processor(
            images=list(images), text=list(texts), return_tensors="pt",
            padding=True, truncation=True, max_length=window,
        ).to(device)  # fmt: skip
        inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
        found = model(**inputs)
        pictures = functional.normalize(found.image_embeds.float(), dim=-1)  # [b, d]
        words = functional.normalize(found.text_embeds.float(), dim=-1)
        scores: torch.Tensor = model.logit_scale.float().exp() * (pictures * words).sum(dim=-1)
        return [float(score) for score in scores]

    def scores(images: Sequence[Image.Image], texts: Sequence[str]) -> list[float]:
        found: list[float] = []
        for first in range(0, len(images), _AT_ONCE):
            piece = slice(first, first + _AT_ONCE)
            found += some_scores(images[piece], texts[piece])
        return found

    return scores
