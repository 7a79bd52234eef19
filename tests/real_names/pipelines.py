"""Diffusion pipelines in the folders of diffusers."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, SD3Transformer2DModel, UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
)

from real_names import tokens
from real_names.weights import seeded, stir, write_json

_SD1_BETAS = {
    "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000, "trained_betas": None,
}  # fmt: skip


def _vae(scaling: float = 0.18215, side: int = 512, **more: Any) -> AutoencoderKL:
    torch.manual_seed(0)
    vae = AutoencoderKL(**{
        "in_channels": 3, "out_channels": 3, "latent_channels": 4, "sample_size": side,
        "act_fn": "silu", "norm_num_groups": 32, "layers_per_block": 1, "scaling_factor": scaling,
        "block_out_channels": (32, 32, 32, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4, **more,
    })  # fmt: skip
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


def _parts(folder: Path, **modules: Any) -> None:
    """Save each part in its folder, in single precision and nothing beside."""
    for name, module in modules.items():
        module.save_pretrained(folder / name)


def _scheduler(folder: Path, kind: str, **config: Any) -> None:
    """As published: what is not said stays unsaid."""
    write_json(folder / "scheduler" / "scheduler_config.json", {
        "_class_name": kind, "_diffusers_version": "0.8.0", **_SD1_BETAS, **config,
    })  # fmt: skip


def _index(folder: Path, kind: str, scheduler: str, **more: Any) -> None:
    write_json(folder / "model_index.json", {
        "_class_name": kind, "_diffusers_version": "0.8.0",
        "scheduler": ["diffusers", scheduler],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        **more,
    })  # fmt: skip


_CHECKED = {
    "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
}
_UNCHECKED = {
    "safety_checker": [None, None],
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "requires_safety_checker": False,
}
_PNDM = {
    "clip_sample": False, "set_alpha_to_one": False, "skip_prk_steps": True, "steps_offset": 1,
}  # fmt: skip


def _sd15(folder: Path, scheduler: str = "PNDMScheduler", **unet: Any) -> None:
    """With its checker, PNDM, and each part's weights four times: pickled too, and in halves."""
    tokens.clip_tokenizer(folder / "tokenizer")
    _parts(
        folder, text_encoder=_text_encoder(), unet=_unet(64, **unet), vae=_vae(),
        safety_checker=_safety_checker(), feature_extractor=_clip_pictures(),
    )  # fmt: skip
    _scheduler(folder, scheduler, **_PNDM)
    kind = "StableDiffusionInpaintPipeline" if unet else "StableDiffusionPipeline"
    _index(folder, kind, scheduler, **_CHECKED)
    beside(folder, bins=True, halves=True)


_OPEN_CLIP_TEXT = {"hidden_act": "gelu", "projection_dim": 512, "bos_token_id": 0}
"""Stable Diffusion 2's text encoder: the last but one layer of OpenCLIP's, saved as the last."""


def _sd21(folder: Path, scheduler: str = "DDIMScheduler", **more: Any) -> None:
    """Predicts the velocity; pads with "!", whose number is 0."""
    tokens.clip_tokenizer(folder / "tokenizer", pad="!")
    unet = _unet(
        64, use_linear_projection=True, attention_head_dim=[4, 8, 8, 8],
        dual_cross_attention=False, upcast_attention=True, only_cross_attention=False,
    )  # fmt: skip
    _parts(
        folder, text_encoder=_text_encoder(**_OPEN_CLIP_TEXT), unet=unet, vae=_vae(side=768),
        feature_extractor=_clip_pictures(),
    )  # fmt: skip
    _scheduler(folder, scheduler, **{
        "clip_sample": False, "prediction_type": "v_prediction", "set_alpha_to_one": False,
        "skip_prk_steps": True, "steps_offset": 1, **more,
    })  # fmt: skip
    _index(folder, "StableDiffusionPipeline", scheduler, **_UNCHECKED)
    beside(folder, bins=True, halves=True)


def _sdxl(folder: Path, refiner: bool = False) -> None:
    """Two encoders side by side, sizes as conditions, zeros for an empty prompt; the refiner has
    the second encoder alone, and takes an aesthetic score."""
    first, second = 32, 64
    pooled, conditions = 64, 5 if refiner else 6
    unet = _unet(
        second if refiner else first + second, side=16, use_linear_projection=True,
        block_out_channels=(32, 64, 64), attention_head_dim=[4, 8, 8],
        transformer_layers_per_block=[1, 2, 2], addition_embed_type="text_time",
        addition_time_embed_dim=32, projection_class_embeddings_input_dim=pooled + 32 * conditions,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    _parts(folder, unet=unet, vae=_vae(scaling=0.13025, side=1024, force_upcast=True))
    if not refiner:
        tokens.clip_tokenizer(folder / "tokenizer")
        _parts(folder, text_encoder=_text_encoder(width=first))
    tokens.clip_tokenizer(folder / "tokenizer_2", pad="!")
    other = _text_encoder(
        CLIPTextModelWithProjection, second, hidden_act="gelu", projection_dim=pooled,
    )  # fmt: skip
    _parts(folder, text_encoder_2=other)
    _scheduler(
        folder, "EulerDiscreteScheduler", clip_sample=False, interpolation_type="linear",
        prediction_type="epsilon", sample_max_value=1.0, set_alpha_to_one=False,
        skip_prk_steps=True, steps_offset=1, timestep_spacing="leading", use_karras_sigmas=False,
    )  # fmt: skip
    kind = "StableDiffusionXLImg2ImgPipeline" if refiner else "StableDiffusionXLPipeline"
    none = {"text_encoder": [None, None], "tokenizer": [None, None]} if refiner else {}
    scored = {"requires_aesthetics_score": True} if refiner else {}
    _index(
        folder, kind, "EulerDiscreteScheduler",
        force_zeros_for_empty_prompt=not refiner, add_watermarker=None,
        text_encoder_2=["transformers", "CLIPTextModelWithProjection"],
        tokenizer_2=["transformers", "CLIPTokenizer"], **none, **scored,
    )  # fmt: skip
    beside(folder, halves=True)


def _sd3(folder: Path) -> None:
    """A transformer instead of a UNet, 16 channels, flow matching."""
    tokens.clip_tokenizer(folder / "tokenizer")
    tokens.clip_tokenizer(folder / "tokenizer_2", pad="!")
    torch.manual_seed(0)
    transformer = SD3Transformer2DModel(
        sample_size=8, patch_size=2, in_channels=16, out_channels=16, num_layers=1,
        attention_head_dim=8, num_attention_heads=4, joint_attention_dim=64,
        caption_projection_dim=32, pooled_projection_dim=128, pos_embed_max_size=96,
    )  # fmt: skip
    _parts(
        folder, transformer=transformer, vae=_vae(scaling=1.5305, side=1024, latent_channels=16),
        text_encoder=_text_encoder(CLIPTextModelWithProjection, projection_dim=64),
        text_encoder_2=_text_encoder(CLIPTextModelWithProjection, projection_dim=64),
    )  # fmt: skip
    write_json(folder / "scheduler" / "scheduler_config.json", {
        "_class_name": "FlowMatchEulerDiscreteScheduler", "_diffusers_version": "0.29.0.dev0",
        "num_train_timesteps": 1000, "shift": 3.0,
    })  # fmt: skip
    write_json(folder / "model_index.json", {
        "_class_name": "StableDiffusion3Pipeline", "_diffusers_version": "0.29.0.dev0",
        "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
        "text_encoder": ["transformers", "CLIPTextModelWithProjection"],
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "text_encoder_3": [None, None], "tokenizer": ["transformers", "CLIPTokenizer"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"], "tokenizer_3": [None, None],
        "transformer": ["diffusers", "SD3Transformer2DModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    })  # fmt: skip


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
    "stabilityai/stable-diffusion-2-1": _sd21,
    "ptx0/pseudo-journey-v2": partial(
        _sd21, rescale_betas_zero_snr=True, timestep_spacing="trailing"
    ),
    "stable-diffusion-v1-5/stable-diffusion-inpainting": partial(_sd15, in_channels=9),
    "stabilityai/stable-diffusion-xl-base-1.0": _sdxl,
    "stabilityai/stable-diffusion-xl-refiner-1.0": partial(_sdxl, refiner=True),
    "stabilityai/stable-diffusion-3-medium-diffusers": _sd3,
}
SUPPORTED = (
    "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2-1",
    "ptx0/pseudo-journey-v2",
    "stabilityai/stable-diffusion-xl-base-1.0",
)
"""What surd draws with and trains on; the others are refused in one line."""
