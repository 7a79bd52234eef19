"""open_clip's repositories: it has the architectures itself, and so their size is the real one."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import open_clip
import torch
from PIL import Image
from safetensors.torch import save_file

from real_names import tokens
from real_names.weights import write_json
from surd.demo.world import world

COSINE = 0.34
"""Of a picture and a text that have nothing to do with each other: random weights know nothing, so
that every pair is about as near, and near enough for the thresholds people use."""


def _vit(folder: Path, architecture: str, quick_gelu: bool) -> None:
    torch.manual_seed(0)
    model = open_clip.create_model(architecture, force_quick_gelu=quick_gelu)
    agree(model.eval(), open_clip.get_tokenizer(architecture))
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    config = dict(open_clip.get_model_config(architecture) or {})
    mean, std = open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD
    write_json(folder / "open_clip_config.json", {
        "model_cfg": config | ({"quick_gelu": True} if quick_gelu else {}),
        "preprocess_cfg": {"mean": list(mean), "std": list(std)},
    })  # fmt: skip
    tokens.clip_tokenizer(folder)


@torch.inference_mode()
def agree(model: Any, tokenizer: Any) -> None:
    """Turn the image tower's last matrix, and weigh both towers' means, until strangers have
    `COSINE` between them and pictures are not all alike."""
    entries = world(16, seed=3)
    side = model.visual.image_size[0] if isinstance(model.visual.image_size, tuple) else 224
    transform = open_clip.image_transform(side, is_train=False)
    pictures = torch.stack([transform(_opened(entry.picture)) for entry in entries])
    images = model.encode_image(pictures)
    texts = model.encode_text(tokenizer([*tokens.SENTENCES, *(e.prompt or "" for e in entries)]))
    away, toward = (torch.nn.functional.normalize(x.mean(0), dim=0) for x in (images, texts))
    model.visual.proj.copy_(model.visual.proj @ _spread(images) @ _turn(away, toward))
    model.text_projection.copy_(model.text_projection @ _spread(texts))


def _sigl(folder: Path) -> None:
    """Trained with a sigmoid: no softmax, a head that looks for what counts, T5's kind of words."""
    torch.manual_seed(0)
    model = open_clip.create_model("ViT-B-16-SigLIP")
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    mean, std = open_clip.constants.INCEPTION_MEAN, open_clip.constants.INCEPTION_STD
    preprocess = {"mean": list(mean), "std": list(std), "interpolation": "bicubic",
                  "resize_mode": "squash"}  # fmt: skip
    config = dict(open_clip.get_model_config("ViT-B-16-SigLIP") or {})
    write_json(
        folder / "open_clip_config.json", {"model_cfg": config, "preprocess_cfg": preprocess}
    )
    tokens.t5_tokenizer(folder, pad="</s>", model_max_length=64)


def _opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data)).convert("RGB")


def _spread(x: torch.Tensor) -> torch.Tensor:
    """``[d, d]``: weighs the mean of ``[n, d]`` so that two of them have a cosine of `COSINE`."""
    mean = x.mean(0)
    length = mean.norm()
    u = mean / length
    rest = (x - (x @ u)[:, None] * u).norm(dim=1).mean()
    wanted = rest * (COSINE / (1 - COSINE)) ** 0.5
    return torch.eye(len(u)) + (wanted / length - 1) * torch.outer(u, u)


def _turn(u: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
    """``[d, d]``, orthogonal: turns `u` into `w`, both of unit length."""
    v = torch.nn.functional.normalize(u - w, dim=0)
    return torch.eye(len(u)) - 2 * torch.outer(v, v)


MODELS = {
    "timm/vit_base_patch32_clip_224.openai": functools.partial(
        _vit, architecture="ViT-B-32", quick_gelu=True
    ),
    "laion/CLIP-ViT-B-32-laion2B-s34B-b79K": functools.partial(
        _vit, architecture="ViT-B-32", quick_gelu=False
    ),
    "timm/vit_large_patch14_clip_224.openai": functools.partial(
        _vit, architecture="ViT-L-14", quick_gelu=True
    ),
    "timm/ViT-B-16-SigLIP": _sigl,
}
