"""Diffusion pipelines in the folders of diffusers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    PNDMScheduler,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import CLIPConfig, CLIPImageProcessor, CLIPTextConfig, CLIPTextModel

from real_names import tokens
from real_names.weights import edit_json, seeded, stir, write_json

_SD1_BETAS = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000, "trained_betas": None,
}  # fmt: skip


def _vae(scaling: float = 0.18215, side: int = 512) -> AutoencoderKL:
    torch.manual_seed(0)
    vae = AutoencoderKL(
        in_channels=3, out_channels=3, latent_channels=4, sample_size=side, act_fn="silu",
        norm_num_groups=32, layers_per_block=1, scaling_factor=scaling,
        block_out_channels=(32, 32, 32, 32),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )  # fmt: skip
    stir(vae, 0.02)
    return vae


def _unet(width: int, side: int = 8, **more: Any) -> UNet2DConditionModel:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(**{
        "sample_size": side, "in_channels": 4, "out_channels": 4, "layers_per_block": 1,
        "block_out_channels": (32, 64, 64, 64), "cross_attention_dim": width,
        "attention_head_dim": 8, "norm_num_groups": 32, "norm_eps": 1e-5, "act_fn": "silu",
        "center_input_sample": False, "flip_sin_to_cos": True, "freq_shift": 0,
        "downsample_padding": 1, "mid_block_scale_factor": 1,
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        **more,
    })  # fmt: skip
    stir(unet, 0.02)
    return unet


def _text_encoder(kind: Any = CLIPTextModel, width: int = 64, **more: Any) -> Any:
    return seeded(kind, CLIPTextConfig(**{
        "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": 2,
        "num_attention_heads": 8, "projection_dim": 768, "vocab_size": 49408,
        "max_position_embeddings": 77, "hidden_act": "quick_gelu", "layer_norm_eps": 1e-5,
        "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1, **more,
    }))  # fmt: skip


def _safety_checker() -> StableDiffusionSafetyChecker:
    vision = {
        "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
        "num_attention_heads": 4, "image_size": 224, "patch_size": 14, "hidden_act": "quick_gelu",
    }  # fmt: skip
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1,
            "num_attention_heads": 4, "vocab_size": 100}  # fmt: skip
    return StableDiffusionSafetyChecker(
        CLIPConfig(vision_config=vision, text_config=text, projection_dim=768)
    )


def _clip_pictures() -> CLIPImageProcessor:
    return CLIPImageProcessor(size={"shortest_edge": 224}, crop_size={"height": 224, "width": 224})


def _sd15(folder: Path) -> None:
    """With its checker, PNDM, and each part's weights four times: pickled too, and in halves."""
    tokens.clip_tokenizer(folder / "tokenizer")
    _text_encoder().save_pretrained(folder / "text_encoder")
    _unet(64).save_pretrained(folder / "unet")
    _vae().save_pretrained(folder / "vae")
    _safety_checker().save_pretrained(folder / "safety_checker")
    _clip_pictures().save_pretrained(folder / "feature_extractor")
    scheduler = PNDMScheduler(
        **_SD1_BETAS, set_alpha_to_one=False, skip_prk_steps=True, steps_offset=1
    )
    scheduler.save_pretrained(folder / "scheduler")
    edit_json(folder / "scheduler" / "scheduler_config.json", clip_sample=False)
    write_json(folder / "model_index.json", {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.6.0",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    })  # fmt: skip
    beside(folder, bins=True, halves=True)


def beside(folder: Path, *, bins: bool = False, halves: bool = False) -> None:
    """The same weights in the other files that published folders have."""
    from safetensors.torch import load_file, save_file

    for safe in [*folder.glob("*/*.safetensors")]:
        weights = load_file(safe)
        half = {name: w.half() if w.is_floating_point() else w for name, w in weights.items()}
        pickled = "pytorch_model" if safe.stem == "model" else safe.stem
        if halves:
            save_file(half, safe.with_name(f"{safe.stem}.fp16.safetensors"), {"format": "pt"})
        if bins:
            torch.save(weights, safe.with_name(f"{pickled}.bin"))
        if bins and halves:
            torch.save(half, safe.with_name(f"{pickled}.fp16.bin"))


MODELS: dict[str, Callable[[Path], None]] = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": _sd15,
}
