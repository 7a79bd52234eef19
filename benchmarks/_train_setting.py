"""What the benchmark of training trains: a Stable Diffusion 1.x and a dataset, cached and not."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from _common import BenchmarkError
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from surd.llm.embeddings import TextVectors
from surd.models.devices import device_named, dtype_of
from surd.models.diffusion import load_pipeline
from surd.models.names import demo_model
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.data import Data
from surd.training.frozen import Denoiser, denoiser_of
from surd.training.latents import CachedLatents, Cut, encode_pictures, pictures_at_once
from surd.training.loop import Student
from surd.training.samples import Sample
from surd.training.setup import config_of
from surd.training.texts import CachedTexts, cached_texts
from surd.training.views import Picture, middle

TOKENS = 77
SAMPLES = 16
"""Rows of the dataset."""
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


def make_samples() -> list[Sample]:
    """Rows with two prompts each."""
    return [
        Sample(
            number,
            f"{number:032x}",
            (f"{number} red cups on a table",),
            f"masterpiece, {number} red cups, table, soft light, highly detailed, sharp",
        )
        for number in range(SAMPLES)
    ]


def make_pictures(side: int) -> list[Picture]:
    """Noise."""
    rng = np.random.default_rng(0)
    pictures = []
    for number in range(SAMPLES):
        buffer = BytesIO()
        Image.fromarray(rng.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(buffer, "PNG")
        pictures.append(Picture(f"{number:032x}", buffer.getvalue()))
    return pictures


def make_latents(vae: Any, pictures: Sequence[Picture], side: int, folder: Path) -> CachedLatents:
    """What surd's training reads, in a file as surd keeps them."""
    cut = Cut(side, flip=True)
    latents = encode_pictures(vae, pictures, cut, pictures_at_once(side))
    path = folder / "latents.safetensors"
    save_file({"latents": latents.half().contiguous().cpu()}, path)
    return CachedLatents([load_file(path)["latents"]], cut.variants)


def text_vectors(vectors: npt.NDArray[np.float16], samples: Sequence[Sample]) -> TextVectors:
    """Of the captions, by text."""
    said = {sample.id: sample.captions[0] for sample in samples}
    places = {text: (row, 1) for row, text in enumerate(said.values())}
    return TextVectors(0, "", {}, vectors, said, places)


@dataclass(frozen=True)
class Setting:
    """All that is trained with, one batch size apart."""

    pipeline: Any
    device: torch.device
    dtype: torch.dtype
    """Of the frozen networks."""
    samples: list[Sample]
    texts: CachedTexts
    latents: CachedLatents
    vectors: TextVectors
    pixels: torch.Tensor
    """``[n, 3, side, side]``; in the order of the samples, as the next three."""
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

    def data(self, params: TrainAdapterParams) -> Data:
        """What surd's training loop learns from."""
        return Data(self.samples, self.texts, params, latents=self.latents, vectors=self.vectors)

    def denoiser(self) -> Denoiser:
        """Of the pipeline."""
        precision = "no" if self.dtype == torch.float32 else "bf16"
        return denoiser_of(self.pipeline, SimpleNamespace(mixed_precision=precision))

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
    samples, pictures = make_samples(), make_pictures(side)
    latents = make_latents(pipeline.vae, pictures, side, folder)
    told = [text for sample in samples for text in (*sample.captions, sample.complex)]
    texts = cached_texts(told, pipeline, str(options.diffusion or options.size), folder)
    for part in (pipeline.vae, pipeline.unet, pipeline.text_encoder):
        part.to(dtype=dtype)
    values = np.random.default_rng(1).standard_normal((SAMPLES, size.llm_width), np.float32)
    vectors = values.astype(np.float16)
    tokens = [
        pipeline.tokenizer(
            prompts, padding="max_length", truncation=True, return_tensors="pt"
        ).input_ids
        for prompts in ([s.captions[0] for s in samples], [s.complex for s in samples])
    ]
    return Setting(
        pipeline=pipeline,
        device=device,
        dtype=dtype,
        samples=samples,
        texts=texts,
        latents=latents,
        vectors=text_vectors(vectors, samples),
        pixels=torch.stack([middle(one.image, side) for one in pictures]),
        simple=tokens[0],
        complex=tokens[1],
        llm=torch.from_numpy((vectors - vectors.mean(0, np.float64)).astype(np.float32))[:, None],
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
