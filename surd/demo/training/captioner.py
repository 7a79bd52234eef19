"""The demo's BLIP: pictures to simple sentences, in training words alone."""

from __future__ import annotations

import random
import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from transformers import (
    BertTokenizerFast,
    BlipConfig,
    BlipForConditionalGeneration,
    BlipImageProcessor,
    BlipProcessor,
)

from surd.demo.training.language import make_caption_tokenizer
from surd.demo.training.loop import fit
from surd.demo.training.pictures import Pictures, as_tensor, distinct_scenes
from surd.demo.training.sizes import CONTEXT_TOKENS, HEADS, LAYERS, PATCH_PX, PICTURE_PX, WIDTH
from surd.demo.vocabulary import simple_sentence

_BATCH = 128


def train_captioner(
    pictures: Pictures, folder: Path, checkpoint: Path, *, steps: int, device: torch.device
) -> None:
    """Train by language modelling alone, and save to `folder`.

    Source: the LM loss of BLIP (Li et al. 2022, arXiv:2201.12086, section 3.2).
    """
    with tempfile.TemporaryDirectory() as scratch:
        tokenizer = make_caption_tokenizer(Path(scratch))
    torch.manual_seed(2)
    model = BlipForConditionalGeneration(_config(tokenizer)).to(device)
    for position in (
        model.vision_model.embeddings.class_embedding,
        model.vision_model.embeddings.position_embedding,
    ):
        nn.init.normal_(position, std=0.02)

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
        with torch.autocast(device.type, torch.bfloat16):
            loss: torch.Tensor = model(
                pixel_values=as_tensor(pictures.pixels[chosen], device),
                input_ids=ids,
                attention_mask=tokens.attention_mask,
                labels=ids.masked_fill(tokens.attention_mask == 0, -100),
            ).loss
        return loss

    fit("captioner", model, loss_of, steps=steps, lr=1e-3, checkpoint=checkpoint)
    model.half().save_pretrained(folder)
    _processor(tokenizer).save_pretrained(folder)


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
    pixels = BlipImageProcessor(
        size={"height": PICTURE_PX, "width": PICTURE_PX}, image_mean=half, image_std=half
    )
    return BlipProcessor(pixels, tokenizer)
