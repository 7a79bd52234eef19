"""What the adapter is taught, beside the denoising loss."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn
from torch.nn import functional

from surd.adapter.params import TrainAdapterParams

TERMS = ("denoising", "llm", "prompt")

Distance = Literal["kl", "cosine", "mse"]


@dataclass(frozen=True)
class Batch:
    """Rows of the data, on the device; b batch, s tokens, d text width, h width of the LLM."""

    latents: torch.Tensor
    """``[b, c, h, w]``, drawn from the autoencoder's Gaussian and scaled."""
    simple: torch.Tensor
    """``[b, s, d]``."""
    complex: torch.Tensor
    """``[b, s, d]``."""
    llm: torch.Tensor
    """``[b, 1, h]``."""
    pooled: torch.Tensor | None
    side: int
    """Of the pictures, in pixels."""


def distance(
    found: torch.Tensor, aim: torch.Tensor, how: Distance = "kl", temperature: float = 1.0
) -> torch.Tensor:
    """How far features ``[b, s, d]`` are from what they shall be, ``[b, s, d]`` or ``[b, 1, d]``.

    ``kl`` is the published one: KL(softmax(found / T) || softmax(aim / T)) over d, summed over the
    tokens, averaged over the batch, times T squared. ``cosine`` (1 - cosine) and ``mse`` are
    averaged over the tokens too.
    """
    aim = aim.expand_as(found)
    if how == "mse":
        return functional.mse_loss(found.float(), aim.float())
    if how == "cosine":
        return (1 - functional.cosine_similarity(found.float(), aim.float(), dim=-1)).mean()
    log_found = functional.log_softmax(found.float() / temperature, dim=-1)
    log_aim = functional.log_softmax(aim.float() / temperature, dim=-1)
    divergence = functional.kl_div(log_aim, log_found, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def losses(
    student: nn.Module,
    unet: Any,
    schedule: Any,
    batch: Batch,
    noise: torch.Tensor,
    times: torch.Tensor,
    params: TrainAdapterParams,
) -> dict[str, torch.Tensor]:
    """The three terms, before they are weighed.

    `schedule` is the noise scheduler; `noise` ``[b, c, h, w]`` and `times` ``[b]`` are drawn by
    the caller. Source: the paper's section 4.3.
    """
    embeddings, features, aim = student(batch.simple, batch.llm)
    with torch.set_grad_enabled(torch.is_grad_enabled() and params.denoising_weight > 0):
        denoising = _denoising(unet, schedule, batch, embeddings, noise, times, params)
    return {
        "denoising": denoising,
        "llm": distance(features, aim, params.distance, params.temperature),
        "prompt": distance(embeddings, batch.complex, params.distance, params.temperature),
    }


def _denoising(
    unet: Any,
    schedule: Any,
    batch: Batch,
    embeddings: torch.Tensor,
    noise: torch.Tensor,
    times: torch.Tensor,
    params: TrainAdapterParams,
) -> torch.Tensor:
    """Squared error of the prediction made from `embeddings` ``[b, s, d]``.

    Source of the Min-SNR weights: arXiv:2303.09556, section 3.4.
    """
    noisy = schedule.add_noise(batch.latents, noise, times)
    extra = {}
    if batch.pooled is not None:
        sizes = [[batch.side, batch.side, 0, 0, batch.side, batch.side]]
        ids = torch.tensor(sizes, device=noise.device)
        extra = {"text_embeds": batch.pooled, "time_ids": ids.repeat(len(noise), 1)}
    dtype = next(unet.parameters()).dtype

    def predict(states: torch.Tensor) -> torch.Tensor:
        said = unet(noisy.to(dtype), times, states.to(dtype), added_cond_kwargs=extra or None)
        prediction: torch.Tensor = said.sample.float()
        return prediction

    kind = schedule.config.prediction_type
    if params.denoising_target == "complex":
        with torch.no_grad():
            wanted = predict(batch.complex)
    elif kind == "epsilon":
        wanted = noise
    else:
        wanted = schedule.get_velocity(batch.latents, noise, times)
    error = functional.mse_loss(predict(embeddings), wanted.float(), reduction="none")
    error = error.mean(dim=(1, 2, 3))
    if params.snr_gamma is not None:
        from diffusers.training_utils import compute_snr

        snr = compute_snr(schedule, times)
        below = snr.clamp(max=params.snr_gamma)
        error = error * below / (snr if kind == "epsilon" else snr + 1)
    return error.mean()


def weighed(terms: Mapping[str, torch.Tensor], params: TrainAdapterParams) -> torch.Tensor:
    """The sum that is minimised."""
    total = params.llm_weight * terms["llm"] + params.prompt_weight * terms["prompt"]
    if params.denoising_weight:
        total = total + params.denoising_weight * terms["denoising"]
    return total
