"""Tiny diffusion pipelines with random weights, and published workspaces to train adapters on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import support_publish
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from surd.llm.prompt2vec import import_prompt2vec
from surd.models.names import demo_model
from surd.recipe.publish import PublishParams
from surd.store.workspace import Workspace

MARKS = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
"""Of tests that run diffusion models."""

SIDE = 16
WIDTH = 32


def make_pipeline(
    prediction_type: str = "epsilon",
    xl: bool = False,
    *,
    second: int = WIDTH,
    unet: Mapping[str, Any] | None = None,
    schedule: Mapping[str, Any] | None = None,
    **of_pipeline: Any,
) -> Any:
    """Stable Diffusion, or SDXL with encoders of 32 and `second`, and so 64 wide states.

    `unet` and `schedule` are configured otherwise; `of_pipeline` goes to the pipeline's class.
    """
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(demo_model("clip"))
    width = WIDTH + second if xl else WIDTH
    parts: dict[str, Any] = {
        "vae": AutoencoderKL(
            sample_size=SIDE,
            latent_channels=4,
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            norm_num_groups=8,
        ),
        "unet": UNet2DConditionModel(
            **{
                "sample_size": SIDE // 2,
                "block_out_channels": (8, 16),
                "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
                "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
                "layers_per_block": 1,
                "cross_attention_dim": width,
                "attention_head_dim": 2,
                "norm_num_groups": 8,
                **(_xl_unet(second) if xl else {}),
                **(unet or {}),
            }
        ),
        "scheduler": DDIMScheduler(
            **{
                "beta_schedule": "scaled_linear",
                "clip_sample": False,
                "prediction_type": prediction_type,
                **(schedule or {}),
            }
        ),
        "tokenizer": tokenizer,
        "text_encoder": CLIPTextModel(_text_config(tokenizer)),
    }
    if xl:
        encoder = CLIPTextModelWithProjection(_text_config(tokenizer, second))
        of_class = {"tokenizer_2": tokenizer, "text_encoder_2": encoder, "add_watermarker": False}
        pipeline = StableDiffusionXLPipeline(**{**parts, **of_class, **of_pipeline})
    else:
        without = {"safety_checker": None, "feature_extractor": None}
        of_class = {**without, "requires_safety_checker": False}
        pipeline = StableDiffusionPipeline(**{**parts, **of_class, **of_pipeline})
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _xl_unet(second: int) -> dict[str, Any]:
    return {
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
        "projection_class_embeddings_input_dim": 6 * 4 + second,
    }


def _text_config(tokenizer: CLIPTokenizer, width: int = WIDTH) -> CLIPTextConfig:
    return CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=64,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=tokenizer.model_max_length,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )


def make_published(folder: Path, count: int = 30, llm_width: int = 24) -> Workspace:
    """A workspace with a published dataset, and vectors of the model "tiny-llm", layer 3."""
    rows = support_publish.samples(count)
    workspace = support_publish.make_workspace(folder, [rows])
    support_publish.publish_anew(workspace, PublishParams())
    vectors = {
        row["simple_prompt"]: torch.randn(
            llm_width, generator=torch.Generator().manual_seed(number)
        ).half()
        for number, row in enumerate(rows)
    }
    path = folder.with_name(f"{folder.name}.pt")
    torch.save(vectors, path)
    import_prompt2vec(workspace, path, "tiny-llm", 3)
    return workspace
