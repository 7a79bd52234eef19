"""What the benchmark of training trains: a Stable Diffusion 1.x and a dataset, cached and not."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _common import BenchmarkError
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from surd.llm.embeddings import Embeddings
from surd.models.devices import device_named, dtype_of
from surd.models.diffusion import load_pipeline
from surd.models.names import demo_model
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.cache import (
    Cached,
    Sample,
    encode_samples,
    open_cache,
    picture,
    pictures_at_once,
)
from surd.training.loop import Student
from surd.training.setup import config_of

TOKENS = 77
SAMPLES, PART = 16, 4
"""Rows of the dataset, and of each file of the cache."""
KL_WEIGHT, GRADIENT_NORM, RATE = 1e-5, 1.0, 1e-5


@dataclass(frozen=True)
class Size:
    """A Stable Diffusion 1.x, and what the adapter is made of."""

    side: int
    """Of the pictures, in pixels."""
    vae: tuple[int, ...]
    """Channels of each level, as of the UNet."""
    unet: tuple[int, ...]
    unet_layers: int
    width: int
    """Of the text embeddings."""
    text_layers: int
    feed_forward: int
    llm_width: int


SIZES = {
    "small": Size(256, (32, 64, 128, 128), (96, 224, 448), 1, 96, 6, 256, 640),
    "sd15": Size(512, (128, 256, 512, 512), (320, 640, 1280, 1280), 2, 768, 12, 2048, 5120),
}


def make_models(size: Size) -> dict[str, Any]:
    """The three networks, as diffusers and transformers set them up without weights to load."""
    levels, inner = len(size.vae), len(size.unet) - 1
    torch.manual_seed(0)
    models = {
        "vae": AutoencoderKL(
            sample_size=size.side,
            latent_channels=4,
            layers_per_block=2,
            block_out_channels=size.vae,
            down_block_types=("DownEncoderBlock2D",) * levels,
            up_block_types=("UpDecoderBlock2D",) * levels,
        ),
        "unet": UNet2DConditionModel(
            sample_size=size.side // 2 ** (levels - 1),
            layers_per_block=size.unet_layers,
            block_out_channels=size.unet,
            down_block_types=("CrossAttnDownBlock2D",) * inner + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * inner,
            cross_attention_dim=size.width,
            attention_head_dim=8,
        ),
        "text_encoder": CLIPTextModel(
            CLIPTextConfig(
                hidden_size=size.width,
                intermediate_size=4 * size.width,
                num_hidden_layers=size.text_layers,
                num_attention_heads=12,
                max_position_embeddings=TOKENS,
            )
        ),
    }
    return {name: model.requires_grad_(False).eval() for name, model in models.items()}


def make_pipeline(size: Size) -> Any:
    """A text-to-image pipeline of them; its tokenizer is the demo's."""
    return StableDiffusionPipeline(
        **make_models(size),
        tokenizer=CLIPTokenizer.from_pretrained(demo_model("clip"), model_max_length=TOKENS),
        scheduler=DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            clip_sample=False,
            steps_offset=1,
        ),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def make_samples(side: int) -> list[Sample]:
    """Noise with two prompts each."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(SAMPLES):
        buffer = BytesIO()
        Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(buffer, "PNG")
        simple = f"{number} red cups on a table"
        complex_ = f"masterpiece, {number} red cups, table, soft light, highly detailed, sharp"
        samples.append(Sample(f"{number:032x}", buffer.getvalue(), simple, complex_))
    return samples


def make_cache(pipeline: Any, samples: Sequence[Sample], side: int, folder: Path) -> Cached:
    """What surd's training reads, in files as surd caches them."""
    for first in range(0, len(samples), PART):
        some = samples[first : first + PART]
        tensors = encode_samples(
            pipeline, some, resolution=side, flip=True, at_once=pictures_at_once(side)
        )
        half = {name: value.half().contiguous().cpu() for name, value in tensors.items()}
        ids = json.dumps([sample.id for sample in some])
        save_file(half, folder / f"part-{first:05d}.safetensors", {"ids": ids})
    return open_cache(folder)


@dataclass(frozen=True)
class Setting:
    """All that is trained with, one batch size apart."""

    pipeline: Any
    device: torch.device
    dtype: torch.dtype
    """Of the frozen networks."""
    cached: Cached
    vectors: Embeddings
    pixels: torch.Tensor
    """``[n, 3, side, side]``; in the order of the cached ids, as the next three."""
    simple: torch.Tensor
    """Token ids ``[n, 77]``."""
    complex: torch.Tensor
    llm: torch.Tensor
    """``[n, 1, h]``."""
    params: TrainAdapterParams

    def rows(self, step: int) -> torch.Tensor:
        """Rows of the batch of a step."""
        size = self.params.batch_size
        return torch.arange(step * size, (step + 1) * size) % len(self.pixels)

    def student(self) -> Student:
        """A new adapter, the same each time."""
        torch.manual_seed(0)
        width = self.pipeline.unet.config.cross_attention_dim
        config = config_of(self.params, width)
        return Student(config, self.vectors.width, self.params.projection).to(self.device)

    def autocast(self) -> torch.autocast:
        """For what is kept in float32 and computed as the frozen networks are."""
        half = self.dtype != torch.float32
        return torch.autocast(self.device.type, self.dtype if half else None, enabled=half)


def make_setting(options: argparse.Namespace, folder: Path) -> Setting:
    """Models, a cached dataset, and the same dataset uncached. Raises SurdError."""
    device = device_named("auto")
    dtype = dtype_of("auto", device)
    size = SIZES[options.size]
    if options.diffusion is None:
        pipeline = make_pipeline(size).to(device)
    else:
        pipeline = load_pipeline(str(options.diffusion), device=str(device))
        if not isinstance(pipeline, StableDiffusionPipeline):
            raise BenchmarkError(f"{options.diffusion}: is no Stable Diffusion 1 or 2")
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.requires_grad_(False).eval()
    side = pipeline.unet.config.sample_size * pipeline.vae_scale_factor
    samples = make_samples(side)
    cached = make_cache(pipeline, samples, side, folder)
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.to(dtype=dtype)
    values = np.random.default_rng(1).standard_normal((SAMPLES, size.llm_width), np.float32)
    vectors = values.astype(np.float16)
    tokens = [
        pipeline.tokenizer(
            prompts, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        for prompts in ([s.simple for s in samples], [s.complex for s in samples])
    ]
    return Setting(
        pipeline=pipeline,
        device=device,
        dtype=dtype,
        cached=cached,
        vectors=Embeddings(vectors, cached.ids, None, 0, ""),
        pixels=torch.stack([picture(sample.image, side) for sample in samples]),
        simple=tokens[0],
        complex=tokens[1],
        llm=torch.from_numpy(vectors.astype(np.float32))[:, None],
        params=TrainAdapterParams(
            feed_forward=size.feed_forward,
            accumulate=1,
            learning_rate=RATE,
            denoising_weight=1.0,
            llm_weight=KL_WEIGHT,
            prompt_weight=KL_WEIGHT,
            max_grad_norm=GRADIENT_NORM,
            precision="no" if dtype == torch.float32 else "bf16",
            report_to="none",  # log.jsonl is written all the same
        ),
    )
