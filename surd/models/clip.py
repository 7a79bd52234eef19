"""CLIP models, through open_clip."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from torch.nn import functional

from surd.errors import ModelError
from surd.models.hub import loading
from surd.models.names import resolve
from surd.text.windows import pieces_that_fit

_TEXTS_AT_ONCE = 64


@dataclass(frozen=True)
class Clip:
    """A loaded CLIP: both towers, its preprocessing and its tokenizer."""

    model: Any
    preprocess: Callable[[Image.Image], torch.Tensor]
    """An RGB picture to ``[3, h, w]`` float32, resized, cropped and normalised."""
    tokenize: Callable[[Sequence[str]], torch.Tensor]
    """Texts to ``[b, context_tokens]`` int64, cut off at the window."""
    count_tokens: Callable[[str], int]
    """Of a text, start and end included, before any cut."""
    context_tokens: int
    side_px: int
    """Of the square pictures the image tower takes."""
    device: torch.device
    dtype: torch.dtype
    """Of the weights, and of the pixels that go in."""

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
        """Texts to ``[b, d]`` float32 of unit length.

        Texts of like length go together, without the padding that open_clip would compute too.
        """
        tokens = self.tokenize(texts)
        lengths = 1 + tokens.argmax(dim=-1)  # the end has the highest id, where texts are trimmed
        order = lengths.argsort(descending=True, stable=True)
        found = [
            self._embed_tokens(tokens[some], int(lengths[some[0]]))
            for some in order.split(_TEXTS_AT_ONCE)
        ]
        return torch.cat(found)[order.argsort().to(self.device)]

    def _embed_tokens(self, tokens: torch.Tensor, longest: int) -> torch.Tensor:
        model = self.model
        if not _ignores_padding(model):
            embedded = model.encode_text(tokens.to(self.device))
        else:
            window = {
                "positional_embedding": model.positional_embedding[:longest],
                "attn_mask": model.attn_mask[:longest, :longest],
            }
            short = {"image": None, "text": tokens[:, :longest].to(self.device)}
            embedded = torch.func.functional_call(model, window, (), short)[1]
        return functional.normalize(embedded.float(), dim=-1)

    def split(self, text: str) -> list[str]:
        """The text in pieces that fit the window; of a single word beyond it, and of a text of
        commas alone, `tokenize` cuts the rest off."""
        return pieces_that_fit(text, self._fits)

    def _fits(self, text: str) -> bool:
        return self.count_tokens(text) <= self.context_tokens


def _ignores_padding(model: Any) -> bool:
    """Whether nothing that counts looks at what comes after the end of a text."""
    return (
        isinstance(model, open_clip.CLIP)
        and model.attn_mask is not None
        and model.text_pool_type == "argmax"
        and not model.output_dict
    )


def load_clip(
    name: str, *, device: str | torch.device = "cpu", dtype: torch.dtype = torch.float32
) -> Clip:
    """The CLIP that `name` means.

    `name` is ``architecture/pretrained`` of open_clip's list (``ViT-B-32/laion2b_s34b_b79k``),
    ``hf-hub:org/repo``, a local folder with ``open_clip_config.json`` and weights, or
    ``demo:clip``. A model of the list computes with the activation its weights were trained with.
    Raises ModelError in one line.
    """
    found, repo, quick_gelu = resolve(name), "", False
    if Path(found).is_dir():
        architecture, pretrained = f"local-dir:{found}", None
    elif found.startswith("hf-hub:"):
        architecture, pretrained = found, None
        repo = found.removeprefix("hf-hub:")
    else:
        architecture, _, tag = found.partition("/")
        if not tag:
            raise ModelError(
                f"CLIP model {name!r} does not name its weights; write architecture/weights "
                "such as ViT-B-32/laion2b_s34b_b79k, hf-hub:org/repo, or a folder"
            )
        pretrained = tag
        known = open_clip.get_pretrained_cfg(architecture, tag)
        repo = "/".join(known.get("hf_hub", "").split("/")[:2])  # a file of it may follow
        quick_gelu = bool(known.get("quick_gelu"))  # open_clip only warns where it differs
    logging.disable(logging.ERROR)  # what it logs on the way is in the error it raises
    try:
        with loading("CLIP model", name, repo):
            model, _, preprocess = open_clip.create_model_and_transforms(
                architecture,
                pretrained=pretrained,
                device=device,
                force_quick_gelu=quick_gelu,
            )
            tokenizer = open_clip.get_tokenizer(architecture)
    finally:
        logging.disable(logging.NOTSET)
    model.to(dtype).eval().requires_grad_(False)
    side = model.visual.image_size
    return Clip(
        model=model,
        preprocess=preprocess,
        tokenize=tokenizer,
        count_tokens=_counter(tokenizer),
        context_tokens=model.context_length,
        side_px=min(side) if isinstance(side, tuple) else side,
        device=torch.device(device),
        dtype=dtype,
    )


def _counter(tokenizer: Any) -> Callable[[str], int]:
    """open_clip has two kinds of tokenizer: its own, and Hugging Face's in a wrapper."""
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is not None:
        return lambda text: len(inner(text, verbose=False).input_ids)
    return lambda text: len(tokenizer.encode(text)) + 2
