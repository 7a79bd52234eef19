"""The frozen parts of a diffusion model: on the device while they are asked, and no longer."""

from __future__ import annotations

import gc
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from surd.recipe.train_adapter import TrainAdapterParams

ENCODERS = ("text_encoder", "text_encoder_2")
_PARTS = ("vae", "unet", *ENCODERS)
_HALF = {"fp16": torch.float16, "bf16": torch.bfloat16}


@dataclass(frozen=True)
class Denoiser:
    """A UNet, and what it takes to have it predict the noise in latents."""

    unet: Any
    schedule: Any
    scale: float
    shift: float
    factor: int
    """Side of a picture over that of its latents."""

    def scaled(self, latents: torch.Tensor) -> torch.Tensor:
        """What the autoencoder says, as the UNet knows it; ``[b, c, h, w]`` both."""
        return (latents - self.shift) * self.scale

    def arguments(
        self,
        latents: torch.Tensor,
        states: torch.Tensor,
        pooled: torch.Tensor | None,
        noise: torch.Tensor,
        times: torch.Tensor,
    ) -> dict[str, Any]:
        """What to call the UNet with, for scaled `latents`, text embeddings `states` ``[b, s, d]``
        and, for SDXL, `pooled` ``[b, p]``."""
        dtype = next(self.unet.parameters()).dtype
        extra = None
        if pooled is not None:
            side = latents.shape[-1] * self.factor
            ids = torch.tensor([[side, side, 0, 0, side, side]], device=noise.device)
            extra = {"text_embeds": pooled, "time_ids": ids.repeat(len(noise), 1)}
        return {
            "sample": self.schedule.add_noise(latents, noise, times).to(dtype),
            "timestep": times,
            "encoder_hidden_states": states.to(dtype),
            "added_cond_kwargs": extra,
        }


def denoiser_of(pipeline: Any, accelerator: Any) -> Denoiser:
    """Of a pipeline, whose UNet stays where it is, in the precision that it is computed in."""
    config, dtype = pipeline.vae.config, unet_dtype(accelerator)
    unet = pipeline.unet.requires_grad_(False).eval()
    return Denoiser(
        unet if unet.dtype == dtype else unet.to(dtype),  # which diffusers warns of
        noise_schedule(pipeline.scheduler),
        config.scaling_factor,
        getattr(config, "shift_factor", None) or 0.0,
        pipeline.vae_scale_factor,
    )


def noise_schedule(scheduler: Any) -> Any:
    """How a pipeline's UNet was taught: the noise that the pipeline itself assumes, at every time.

    A scheduler made from another's configuration takes its own defaults for all that was left at
    the other's, and so it is not made from that.
    """
    from diffusers import DDPMScheduler

    signal = scheduler.alphas_cumprod.cpu()  # [times]
    predicts = scheduler.config.get("prediction_type", "epsilon")
    schedule = DDPMScheduler(num_train_timesteps=len(signal), prediction_type=predicts)
    schedule.alphas_cumprod = signal
    return schedule


def learning_unet(denoiser: Denoiser, params: TrainAdapterParams, accelerator: Any) -> Denoiser:
    """The denoiser on the device, as gradients go through it in training."""
    unet = denoiser.unet.to(accelerator.device)
    if params.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
        unet.train()  # it is used in training mode only; there is no dropout in it
    compiled = torch.compile(unet) if params.compile else unet
    schedule, scale, shift = denoiser.schedule, denoiser.scale, denoiser.shift
    return Denoiser(compiled, schedule, scale, shift, denoiser.factor)


def unet_dtype(accelerator: Any) -> torch.dtype:
    """The precision that the UNet, or what stays of it, is computed in."""
    return _HALF.get(accelerator.mixed_precision, torch.float32)


@contextmanager
def on_device(device: torch.device, *modules: Any) -> Iterator[None]:
    """Some modules, there for the block and on the CPU afterwards."""
    there = [module for module in modules if module is not None]
    try:
        for module in there:
            module.to(device)
        yield
    finally:
        for module in there:
            module.to("cpu")
        if device.type == "cuda":
            torch.cuda.empty_cache()


def drop(pipeline: Any, *, but: Collection[str]) -> None:
    """Free what is heavy of a pipeline, `but` some parts; modules that somebody else holds stay."""
    for name in _PARTS:
        if getattr(pipeline, name, None) is not None and name not in but:
            setattr(pipeline, name, None)
    gc.collect()
