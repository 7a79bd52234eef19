"""The demo's AutoencoderKL: pictures to latents a quarter of their side, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch.nn import functional

from tools.demo_models.loop import fit
from tools.demo_models.painted import Pictures, as_tensor
from tools.demo_models.sizes import LATENT_CHANNELS, PICTURE_PX

_BATCH = 32
_KL_WEIGHT = 1e-5
_SHARPNESS_WEIGHT = 1.0


def train_autoencoder(
    pictures: Pictures, checkpoint: Path, *, steps: int, device: torch.device
) -> AutoencoderKL:
    """Train from nothing: absolute error of pixels and of their edges, and a touch of KL.

    The KL term keeps latents near a unit Gaussian (Rombach et al. 2022, arXiv:2112.10752,
    section G); `scaling_factor` is set so that the latents of the pictures have unit variance.
    """
    torch.manual_seed(1)
    model = AutoencoderKL(
        sample_size=PICTURE_PX,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(32, 48, 64),
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1,
        norm_num_groups=16,
    ).to(device)

    def loss_of(step: int) -> torch.Tensor:
        chosen = np.random.default_rng((2, step)).integers(len(pictures), size=_BATCH)
        pixels = as_tensor(pictures.pixels[chosen], device)
        with torch.autocast(device.type, torch.bfloat16):
            latents = model.encode(pixels).latent_dist
            rebuilt = model.decode(latents.sample()).sample
        rebuilt = rebuilt.float()
        error = functional.l1_loss(rebuilt, pixels)
        edges = sum(functional.l1_loss(rebuilt.diff(dim=d), pixels.diff(dim=d)) for d in (2, 3))
        loss: torch.Tensor = error + _SHARPNESS_WEIGHT * edges + _KL_WEIGHT * latents.kl().mean()
        return loss

    fit("autoencoder", model, loss_of, steps=steps, lr=1e-3, checkpoint=checkpoint)
    sample = encode(model, pictures.pixels[:: max(1, len(pictures) // 2048)], device)
    model.register_to_config(scaling_factor=1 / float(sample[:, :LATENT_CHANNELS].std()))
    return model


@torch.no_grad()
def encode(model: AutoencoderKL, pixels: np.ndarray, device: torch.device) -> torch.Tensor:
    """Means and log variances ``[n, 2 * LATENT_CHANNELS, h, w]`` of the pictures' latents."""
    return torch.cat(
        [
            model.encode(as_tensor(pixels[i : i + 256], device)).latent_dist.parameters.cpu()
            for i in range(0, len(pixels), 256)
        ]
    )
