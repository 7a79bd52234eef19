"""What the adapter is taught, beside the denoising loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.attention import Reader, attention_error

TERMS = ("denoising", "attention", "llm", "prompt")
"""The losses, each with a weight of its own."""


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


def distance(found: torch.Tensor, aim: torch.Tensor) -> torch.Tensor:
    """How far features ``[b, s, d]`` are from what they shall be, ``[b, s, d]`` or ``[b, 1, d]``.

    The published one: KL(softmax(found) || softmax(aim)) over d, summed over the tokens, averaged
    over the batch.
    """
    log_found = functional.log_softmax(found.float(), dim=-1)
    log_aim = functional.log_softmax(aim.expand_as(found).float(), dim=-1)
    return functional.kl_div(log_aim, log_found, reduction="batchmean", log_target=True)


def losses(
    student: nn.Module,
    unet: Any,
    schedule: Any,
    batch: Batch,
    noise: torch.Tensor,
    times: torch.Tensor,
    params: TrainAdapterParams,
    readers: Sequence[Reader] = (),
) -> dict[str, torch.Tensor]:
    """The terms that have a weight, before they are weighed.

    `schedule` is the noise scheduler; `noise` ``[b, c, h, w]`` and `times` ``[b]`` are drawn by
    the caller. `readers` are wanted where attention has a weight. Source: the paper's section 4.3.
    """
    embeddings, features, aim = student(batch.simple, batch.llm)
    terms = {}
    if params.denoising_weight:
        terms["denoising"] = _denoising(unet, schedule, batch, embeddings, noise, times, params)
    if params.attention_weight:
        root = params.attention_distance == "root"
        terms["attention"] = attention_error(readers, embeddings, batch.complex, root=root)
    if params.llm_weight:
        terms["llm"] = distance(features, aim)
    if params.prompt_weight:
        terms["prompt"] = distance(embeddings, batch.complex)
    return terms


def weighed(terms: Mapping[str, torch.Tensor], params: TrainAdapterParams) -> torch.Tensor:
    """The sum that is minimised."""
    parts = [getattr(params, f"{name}_weight") * term for name, term in terms.items()]
    return torch.stack(parts).sum()


def unet_arguments(
    unet: Any,
    schedule: Any,
    batch: Batch,
    states: torch.Tensor,
    noise: torch.Tensor,
    times: torch.Tensor,
) -> dict[str, Any]:
    """What to call a UNet with, for noisy latents and text embeddings `states` ``[b, s, d]``."""
    dtype = next(unet.parameters()).dtype
    extra = None
    if batch.pooled is not None:
        sizes = [[batch.side, batch.side, 0, 0, batch.side, batch.side]]
        ids = torch.tensor(sizes, device=noise.device)
        extra = {"text_embeds": batch.pooled, "time_ids": ids.repeat(len(noise), 1)}
    return {
        "sample": schedule.add_noise(batch.latents, noise, times).to(dtype),
        "timestep": times,
        "encoder_hidden_states": states.to(dtype),
        "added_cond_kwargs": extra,
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
    """Squared error of the prediction made from `embeddings` ``[b, s, d]``."""

    said = unet(**unet_arguments(unet, schedule, batch, embeddings, noise, times))
    kind = schedule.config.prediction_type
    wanted = noise if kind == "epsilon" else schedule.get_velocity(batch.latents, noise, times)
    error = functional.mse_loss(said.sample.float(), wanted.float(), reduction="none")
    error = error.mean(dim=(1, 2, 3))
    if params.snr_gamma is not None:
        from diffusers.training_utils import compute_snr

        error = error * min_snr(compute_snr(schedule, times), params.snr_gamma, kind)
    return error.mean()


def min_snr(snr: torch.Tensor, gamma: float, kind: str) -> torch.Tensor:
    """The weights of squared errors ``[b]``, of a prediction of that `kind`.

    min(SNR, gamma) weighs the error of the picture. The squared error of the same prediction is SNR
    times that in noise, SNR + 1 times in velocity (arXiv:2303.09556, section 3.4). A schedule with
    zero terminal SNR ends at 0: the weight of noise is 1 there, its limit, the others are 0.
    """
    if kind == "epsilon":
        return (gamma / snr).clamp(max=1)
    below = snr.clamp(max=gamma)
    return below if kind == "sample" else below / (snr + 1)
