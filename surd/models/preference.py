"""Heads that judge a picture, or a picture and a text, beside CLIP's cosine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn import functional
from transformers import BlipForImageTextRetrieval, BlipProcessor

from surd.errors import ModelError
from surd.models.hub import loading
from surd.models.quiet import hush

AestheticScore = Callable[[torch.Tensor], torch.Tensor]
"""Unit-length CLIP image embeddings ``[b, d]`` float32 to scores ``[b]``, about 1 to 10."""
MatchScore = Callable[[Sequence[Image.Image], Sequence[str]], list[float]]
"""Pairs of RGB picture and text to the probability, 0 to 1, that they match."""


def load_aesthetic_head(path: str, device: torch.device) -> AestheticScore:
    """An aesthetic head: one linear layer, or several without activations between them.

    The layouts are those of https://github.com/LAION-AI/aesthetic-predictor (``weight``,
    ``bias``) and https://github.com/christophschuhmann/improved-aesthetic-predictor
    (``layers.N.weight``, ``layers.N.bias``; its dropouts do nothing at inference). Raises
    ModelError.
    """
    try:
        state = torch.load(Path(path).expanduser(), map_location="cpu", weights_only=True)
    except OSError as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else error.strerror
        raise ModelError(f"aesthetic head {path}: {reason}") from error
    except Exception as error:  # unpickling raises whatever the file makes it
        raise ModelError(f"aesthetic head {path}: not a file that holds only weights") from error
    layers = [(w.float().to(device), b.float().to(device)) for w, b in _layers(state, path)]

    def score(embeddings: torch.Tensor) -> torch.Tensor:
        width = layers[0][0].shape[1]
        if embeddings.shape[1] != width:
            raise ModelError(
                f"aesthetic head {path} expects CLIP embeddings of width {width}, but those "
                f"of score.clip have width {embeddings.shape[1]}"
            )
        x = embeddings
        for weight, bias in layers:
            x = functional.linear(x, weight, bias)
        return x[:, 0]

    return score


def _layers(state: Any, path: str) -> list[tuple[torch.Tensor, torch.Tensor]]:
    if isinstance(state, Mapping):
        names = [name[: -len("weight")] for name in map(str, state) if name.endswith("weight")]
        names.sort(key=lambda name: [int(n) for n in name.split(".") if n.isdigit()])
        pairs = [(f"{name}weight", f"{name}bias") for name in names]
        found: list[tuple[Any, Any]] = [(state.get(w), state.get(b)) for w, b in pairs]
        layers = [(w, b) for w, b in found if _is_linear(w, b)]
        widths = [*(weight.shape[1] for weight, _ in layers[1:]), 1]
        heights = [weight.shape[0] for weight, _ in layers]
        if layers and len(layers) == len(found) and heights == widths:
            return layers
    raise ModelError(f"aesthetic head {path}: not a stack of linear layers ending in one score")


def _is_linear(weight: Any, bias: Any) -> bool:
    return (
        isinstance(weight, torch.Tensor)
        and isinstance(bias, torch.Tensor)
        and weight.ndim == 2
        and bias.shape == weight.shape[:1]
    )


def load_itm(name: str, *, device: torch.device, dtype: torch.dtype) -> MatchScore:
    """BLIP's image-text matching head (Li et al. 2022, arXiv:2201.12086, section 3.2).

    Raises ModelError in one line.
    """
    with loading("matching model", name) as found:
        hush()
        processor = BlipProcessor.from_pretrained(found)
        model, loaded = BlipForImageTextRetrieval.from_pretrained(
            found, dtype=dtype, output_loading_info=True
        )
    absent = sorted(loaded["missing_keys"])  # transformers makes up what is not there
    if len(processor.tokenizer) <= len(processor.tokenizer.all_special_tokens):
        absent.append("vocabulary")
    if absent:
        raise ModelError(
            f"matching model {name!r} is not a BLIP for image-text matching: it has no {absent[0]}"
        )
    model.to(device).eval().requires_grad_(False)
    window = min(
        processor.tokenizer.model_max_length, model.config.text_config.max_position_embeddings
    )

    @torch.inference_mode()
    def score(images: Sequence[Image.Image], texts: Sequence[str]) -> list[float]:
        inputs = processor(
            images=list(images), text=list(texts), padding=True, truncation=True,
            max_length=window, return_tensors="pt",
        ).to(device)  # fmt: skip
        inputs["pixel_values"] = inputs["pixel_values"].to(dtype)
        logits = model(**inputs, use_itm_head=True).itm_score.float()  # [b, 2]: no, yes
        return [float(p) for p in logits.softmax(dim=-1)[:, 1]]

    return score
