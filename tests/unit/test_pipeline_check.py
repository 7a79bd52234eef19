"""Diffusion pipelines that surd works with, and those it refuses in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import pytest
import torch
from support_diffusion import MARKS, make_pipeline

from surd.errors import ModelError
from surd.models.pipeline_check import SUPPORTED, check_pipeline
from surd.training.frozen import noise_schedule

pytestmark = MARKS

ZERO_SNR = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
SCHEDULERS = [
    "DDIMScheduler",
    "DDPMScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "DPMSolverMultistepScheduler",
    "DPMSolverSinglestepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
    "LCMScheduler",
]


def with_scheduler(kind: str, **settings: Any) -> Any:
    pipeline = make_pipeline()
    config = {**pipeline.scheduler.config, **settings, "_use_default_values": []}
    pipeline.scheduler = getattr(diffusers, kind).from_config(config)
    return pipeline


@pytest.mark.parametrize("kind", SCHEDULERS)
def test_schedulers_of_the_ddpm_family_are_understood_and_trained_with_the_noise_they_assume(
    kind: str,
) -> None:
    for settings in ({"prediction_type": "epsilon"}, {"prediction_type": "v_prediction"}, ZERO_SNR):
        pipeline = with_scheduler(kind, **settings)
        check_pipeline("m", pipeline)
        schedule = noise_schedule(pipeline.scheduler)
        assert torch.equal(schedule.alphas_cumprod, pipeline.scheduler.alphas_cumprod)
        assert schedule.config.prediction_type == settings["prediction_type"]
        assert schedule.config.num_train_timesteps == 1000


@pytest.mark.parametrize("kind", ["DDIMScheduler", "DDPMScheduler", "EulerDiscreteScheduler"])
def test_zero_terminal_snr_is_trained_to_its_end(kind: str) -> None:
    schedule = noise_schedule(with_scheduler(kind, **ZERO_SNR).scheduler)
    latents, noise, times = (
        torch.ones(1, 4, 2, 2),
        torch.full((1, 4, 2, 2), 3.0),
        torch.tensor([999]),
    )
    torch.testing.assert_close(schedule.add_noise(latents, noise, times), noise, atol=1e-3, rtol=0)
    velocity = schedule.get_velocity(latents, noise, times)  # of a picture that is noise alone
    torch.testing.assert_close(velocity, -latents, atol=1e-3, rtol=0)


def test_stable_diffusion_and_sdxl_are_understood() -> None:
    for pipeline in (make_pipeline(), make_pipeline("v_prediction"), make_pipeline(xl=True)):
        check_pipeline("m", pipeline)


def without(part: str) -> Any:
    pipeline = make_pipeline(xl=True)
    setattr(pipeline, part, None)
    return pipeline


def of_tokens(count: int) -> Any:
    pipeline = make_pipeline()
    tokenizer = type(pipeline.tokenizer).from_pretrained(pipeline.tokenizer.name_or_path)
    tokenizer.model_max_length = count
    pipeline.tokenizer = tokenizer
    return pipeline


def with_tiny_autoencoder() -> Any:
    pipeline = make_pipeline()
    pipeline.vae = diffusers.AutoencoderTiny()
    return pipeline


def with_channel_scales() -> Any:
    pipeline = make_pipeline()
    pipeline.vae.register_to_config(latents_mean=[0.0] * 4, latents_std=[1.0] * 4)
    return pipeline


def img2img() -> Any:
    parts = {**make_pipeline().components, "requires_safety_checker": False}
    return diffusers.StableDiffusionImg2ImgPipeline(**parts)


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "image to image": (img2img, "is a StableDiffusionImg2ImgPipeline"),
    "inpainting": (lambda: make_pipeline(unet={"in_channels": 9}), "its UNet has 9 in_channels"),
    "editing": (lambda: make_pipeline(unet={"in_channels": 8}), "its UNet has 8 in_channels"),
    "learned variance": (lambda: make_pipeline(unet={"out_channels": 8}), "has 8 out_channels"),
    "refiner": (lambda: without("text_encoder"), "it has no text_encoder"),
    "no UNet": (lambda: without("unet"), "it has no unet"),
    "distilled guidance": (
        lambda: make_pipeline(unet={"time_cond_proj_dim": 16}),
        "needs more than a prompt (time_cond_proj_dim)",
    ),
    "classes": (
        lambda: make_pipeline(unet={"num_class_embeds": 3}),
        "needs more than a prompt (num_class_embeds)",
    ),
    "not square": (
        lambda: make_pipeline(unet={"sample_size": [8, 12]}),
        "its UNet has sample_size [8, 12], not one number",
    ),
    "no size": (lambda: make_pipeline(unet={"sample_size": None}), "has sample_size None"),
    "other text": (
        lambda: make_pipeline(unet={"cross_attention_dim": 64}),
        "reads text embeddings of width 64, and its text has 32",
    ),
    "many tokens": (lambda: of_tokens(77), "gives 77 tokens, and its text encoder takes 40"),
    "another autoencoder": (with_tiny_autoencoder, "its autoencoder is an AutoencoderTiny"),
    "scaled channels": (with_channel_scales, "scales each channel by itself"),
    "EDM": (
        lambda: with_scheduler("EDMEulerScheduler"),
        "its scheduler (EDMEulerScheduler) is none of the DDPM family",
    ),
    "flow matching": (
        lambda: with_scheduler("FlowMatchEulerDiscreteScheduler"),
        "(FlowMatchEulerDiscreteScheduler) is none",
    ),
    "flow sigmas": (
        lambda: with_scheduler(
            "UniPCMultistepScheduler", use_flow_sigmas=True, prediction_type="flow_prediction"
        ),
        "(UniPCMultistepScheduler) is none",
    ),
    "sample": (lambda: make_pipeline("sample"), "predicts 'sample', not epsilon or v_prediction"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_others_are_refused_in_one_line(what: str) -> None:
    make, told = REFUSED[what]
    pipeline = make()
    with pytest.raises(ModelError) as caught:
        check_pipeline("me/model", pipeline)
    line = str(caught.value)
    assert told in line and "'me/model'" in line and line.endswith(SUPPORTED) and "\n" not in line
