"""The demo's BLIP: pictures to simple sentences, in training words alone.

Its vision transformer sees shapes only after very many pictures when sentences are all it learns
from; a convolutional tower sees them soon. So it learns from the demo's CLIP as well.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
)

from surd.demo.sentences import simple_sentence
from tools.demo_models.language import make_caption_tokenizer
from tools.demo_models.loop import fit
from tools.demo_models.painted import Pictures, as_tensor, distinct_scenes
from tools.demo_models.sizes import CONTEXT_TOKENS, HEADS, LAYERS, PATCH_PX, PICTURE_PX, WIDTH

_BATCH = 128


def train_captioner(
    pictures: Pictures,
    tower: nn.Module,
    folder: Path,
    checkpoint: Path,
    *,
    steps: int,
    device: torch.device,
) -> None:
    """Train by language modelling and by imitating `tower`, CLIP's; save to `folder`.

    Sources: the LM loss of BLIP (Li et al. 2022, arXiv:2201.12086, section 3.2); the features of a
    convolutional teacher as a vision transformer's targets (Touvron et al. 2021, arXiv:2012.12877,
    section 4, says why), here those inside it too (Romero et al. 2015, arXiv:1412.6550).
    """
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = make_caption_tokenizer(Path(scratch))
    torch.manual_seed(2)
    model = BlipForConditionalGeneration(_config(tokenizer))
    for position in (
        model.vision_model.embeddings.class_embedding,
        model.vision_model.embeddings.position_embedding,
    ):
        nn.init.normal_(position, std=0.02)
    teacher = _Teacher(tower).to(device)
    heads = teacher.make_heads()
    student = nn.ModuleDict({"blip": model, "heads": heads}).to(device)

    def loss_of(step: int) -> torch.Tensor:
        rng = np.random.default_rng((3, step))
        chosen = distinct_scenes(pictures, _BATCH, rng)
        words = random.Random(int(rng.integers(10**9)))
        texts = [
            simple_sentence(pictures.scenes[i], seed=words.randrange(10**9), words="train")
            for i in chosen
        ]
        tokens = tokenizer(texts, padding=True, return_tensors="pt").to(device)
        ids = tokens.input_ids
        ids[:, 0] = tokenizer.bos_token_id
        pixels = as_tensor(pictures.pixels[chosen], device)
        with torch.autocast(device.type, torch.bfloat16):
            seen = model.vision_model(pixel_values=pixels, output_hidden_states=True)
            imitation = teacher.loss(pixels, seen.hidden_states, heads)
            spoken: torch.Tensor = model.text_decoder(
                input_ids=ids,
                attention_mask=tokens.attention_mask,
                encoder_hidden_states=seen.last_hidden_state,
                labels=ids.masked_fill(tokens.attention_mask == 0, -100),
            ).loss
        return spoken + imitation

    fit("captioner", student, loss_of, steps=steps, lr=2e-3, checkpoint=checkpoint)
    model.half().save_pretrained(folder)
    _processor(tokenizer).save_pretrained(folder)


class _Teacher(nn.Module):
    """open_clip's ResNet, and what it says of a picture at three depths."""

    _AFTER_LAYER = (LAYERS // 2, LAYERS, LAYERS)
    """The student's layer that learns each of them."""

    def __init__(self, tower: nn.Module) -> None:
        super().__init__()
        self.tower = tower.eval().requires_grad_(False)

    def make_heads(self) -> nn.ModuleList:
        """Linear maps from the student's width to that of each target."""
        blank = torch.zeros(1, 3, PICTURE_PX, PICTURE_PX)
        return nn.ModuleList(nn.Linear(WIDTH, t.shape[-1]) for t in self._targets(blank))

    def loss(
        self, pixels: torch.Tensor, states: tuple[torch.Tensor, ...], heads: nn.ModuleList
    ) -> torch.Tensor:
        """Mean squared error to the features under each patch, and to the whole picture's.

        `states` are the student's hidden states ``[b, 1 + patches, WIDTH]``, its input first.
        """
        terms = []
        for target, layer, head in zip(
            self._targets(pixels), self._AFTER_LAYER, heads, strict=True
        ):
            state = states[layer]
            tokens = state[:, 1:] if target.shape[1] > 1 else state[:, :1]
            terms.append(functional.mse_loss(head(tokens).float(), _standard(target.float())))
        return torch.stack(terms).sum()

    @torch.no_grad()
    def _targets(self, pixels: torch.Tensor) -> list[torch.Tensor]:
        """Two ``[b, patches, channels]`` and ``[b, 1, WIDTH]``."""
        tower: Any = self.tower
        near = tower.layer2(tower.layer1(tower.stem(pixels)))  # [b, channels, rows, columns]
        far = tower.layer3(near)
        whole = tower.attnpool(tower.layer4(far))  # [b, WIDTH]
        return [_under_patches(near), _under_patches(far), whole[:, None]]


def _under_patches(features: torch.Tensor) -> torch.Tensor:
    """``[b, channels, rows, columns]`` to ``[b, patches, channels]``."""
    rows = PICTURE_PX // PATCH_PX
    resized = functional.interpolate(features, (rows, rows), mode="bilinear")
    return resized.flatten(2).transpose(1, 2)


def _standard(target: torch.Tensor) -> torch.Tensor:
    """Each channel with mean 0 and variance 1 over the batch."""
    spread, mean = torch.std_mean(target, dim=(0, 1), keepdim=True, correction=0)
    return (target - mean) / (spread + 1e-3)


def _config(tokenizer: BertTokenizerFast) -> BlipConfig:
    size = {
        "hidden_size": WIDTH,
        "intermediate_size": 4 * WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
    }
    return BlipConfig(
        vision_config={**size, "image_size": PICTURE_PX, "patch_size": PATCH_PX},
        text_config={
            **size,
            "num_hidden_layers": 2,
            "encoder_hidden_size": WIDTH,
            "vocab_size": len(tokenizer),
            "max_position_embeddings": CONTEXT_TOKENS,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.sep_token_id,
            "sep_token_id": tokenizer.sep_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        },
        projection_dim=WIDTH,
    )


def _processor(tokenizer: BertTokenizerFast) -> BlipProcessor:
    half = [0.5, 0.5, 0.5]
    pixels = BlipImageProcessor(  # crops as CLIP does: it was never shown a squeezed picture
        size={"shortest_edge": PICTURE_PX},
        do_center_crop=True,
        crop_size={"height": PICTURE_PX, "width": PICTURE_PX},
        image_mean=half,
        image_std=half,
    )
    return BlipProcessor(pixels, tokenizer)
