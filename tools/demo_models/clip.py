"""The demo's CLIP: pictures against both ways of speaking about them.

Contrastive loss of Radford et al. 2021 (arXiv:2103.00020, figure 3), once against complex prompts
and once against simple sentences, over batches in which no scene comes twice.
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from surd.demo.scenes import Pair, Scene
from tools.demo_models.language import make_clip_tokenizer, sentence, tags
from tools.demo_models.loop import fit
from tools.demo_models.painted import Pictures, as_tensor, distinct_scenes
from tools.demo_models.sizes import CONTEXT_TOKENS, HEADS, LAYERS, PICTURE_PX, WIDTH

_BATCH = 128
_MEAN_STD = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}


def train_clip(
    pictures: Pictures,
    folder: Path,
    checkpoint: Path,
    *,
    steps: int,
    device: torch.device,
    plain: bool = False,
) -> None:
    """Train, and save ``folder`` so that ``open_clip`` loads it as ``local-dir:FOLDER``.

    A `plain` one never reads what a picture does not show, unheard words, or what things are known
    for.
    """
    tokenizer = make_clip_tokenizer(plain)
    config = model_config(len(tokenizer))
    torch.manual_seed(0)
    model = open_clip.CLIP(**config).to(device)

    def loss_of(step: int) -> torch.Tensor:
        rng = np.random.default_rng((1, step))
        chosen = distinct_scenes(pictures, _BATCH, rng)
        scenes = [pictures.scenes[i] for i in chosen]
        pixels = as_tensor(pictures.pixels[chosen], device)
        with torch.autocast(device.type, torch.bfloat16):
            images = model.encode_image(pixels, normalize=True)
            losses = [
                _contrast(images, _encode(model, tokenizer, texts, device), model.logit_scale)
                for texts in _texts(scenes, int(rng.integers(10**9)), plain)
            ]
        return torch.stack(losses).mean()

    fit("clip", model, loss_of, steps=steps, lr=1e-3, checkpoint=checkpoint, weight_decay=0.05)
    save_clip(model, config, tokenizer, folder)


def model_config(vocabulary_size: int) -> dict[str, Any]:
    """open_clip's model configuration."""
    return {
        "embed_dim": WIDTH,
        "vision_cfg": {
            "image_size": PICTURE_PX,
            "layers": [1, 1, 1, 1],
            "width": 24,
            "head_width": 32,
        },
        "text_cfg": {
            "context_length": CONTEXT_TOKENS,
            "vocab_size": vocabulary_size,
            "hf_tokenizer_name": "surd-demo",
            "width": WIDTH,
            "heads": HEADS,
            "layers": LAYERS,
        },
    }


def save_clip(model: nn.Module, config: dict[str, Any], tokenizer: Any, folder: Path) -> None:
    """Weights as float16 safetensors, the configuration and the tokenizer beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    about = {
        "model_cfg": config,
        "preprocess_cfg": {**_MEAN_STD, "interpolation": "bicubic", "resize_mode": "shortest"},
    }
    text = json.dumps(about, indent=2) + "\n"
    (folder / "open_clip_config.json").write_text(text, encoding="utf-8")
    weights = {k: v.detach().half().contiguous().cpu() for k, v in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")


def _texts(scenes: list[Scene | Pair], seed: int, plain: bool) -> tuple[list[str], list[str]]:
    rng = random.Random(seed)
    tagged = [tags(scene, rng.randrange(10**9)) for scene in scenes]
    said = [sentence(scene, rng.randrange(10**9), "all", plain=plain) for scene in scenes]
    return tagged, said


def _encode(model: Any, tokenizer: Any, texts: list[str], device: torch.device) -> torch.Tensor:
    """``[b, WIDTH]``, of unit length. Padding comes after the end and is never looked at."""
    tokens = tokenizer(
        texts, max_length=CONTEXT_TOKENS, padding="longest", truncation=True, return_tensors="pt"
    ).input_ids.to(device)
    length = tokens.shape[1]  # shorter than the window, which encode_text would fill with padding
    x = model.token_embedding(tokens) + model.positional_embedding[:length]  # [b, s, d]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])
    x = model.ln_final(x)
    pooled = x[torch.arange(len(x)), tokens.argmax(dim=-1)] @ model.text_projection  # [b, d]
    return functional.normalize(pooled, dim=-1)


def _contrast(images: torch.Tensor, texts: torch.Tensor, logit_scale: torch.Tensor) -> torch.Tensor:
    logits = logit_scale.exp().clamp(max=100) * images.float() @ texts.float().T
    targets = torch.arange(len(logits), device=logits.device)
    return (
        functional.cross_entropy(logits, targets) + functional.cross_entropy(logits.T, targets)
    ) / 2
