"""What the adapter is taught, beside the denoising loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional

from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.attention import Probe, attention_error
from surd.training.frozen import Denoiser

TERMS = ("denoising", "attention", "llm", "prompt")
"""The losses, each with a weight of its own."""


@dataclass(frozen=True)
class Batch:
    """Samples, on the device; b batch, s tokens, d text width, h width of the LLM.

    What no loss in use needs is None.
    """

    latents: torch.Tensor | None
    """``[b, c, h, w]``, drawn from the autoencoder's Gaussian, not scaled yet."""
    simple: torch.Tensor
    """``[b, s, d]``."""
    complex: torch.Tensor | None
    """``[b, k s, d]``, of all windows of the complex prompt, the longest k of them."""
    llm: torch.Tensor | None
    """``[b, 1, h]``, vectors of the texts that `simple` is of, less the mean of all."""
    pooled: torch.Tensor | None
    """Of SDXL ``[b, p]``, of the texts that `simple` is of."""
    complex_mask: torch.Tensor | None = None
    """``[b, k s]``, false where a prompt has fewer windows; None where all have one."""
    read: torch.Tensor | None = None
    """``[b, t, h]``, the language model's states of the tokens of those texts."""
    read_mask: torch.Tensor | None = None
    """``[b, t]``, false for padding."""
    texts: Sequence[str] = ()
    """That `simple` is of, for a LoRA."""


Given = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""By a student: text embeddings ``[b, s, d]``, features ``[b, s, d]``, and what those shall be,
``[b, 1, d]``."""


@dataclass(frozen=True)
class Noise:
    """What latents are disturbed with."""

    values: torch.Tensor
    """``[b, c, h, w]``."""
    times: torch.Tensor
    """``[b]``, steps of the schedule."""


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
    batch: Batch,
    params: TrainAdapterParams,
    *,
    denoiser: Denoiser | None = None,
    noise: Noise | None = None,
    probes: Sequence[Probe] = (),
) -> dict[str, torch.Tensor]:
    """The terms that have a weight, before they are weighed.

    `denoiser` and `noise` are wanted where denoising has a weight, `probes` where attention has
    one. Source: the paper's section 4.3.
    """
    given = student(batch)
    terms = {}
    if params.denoising_weight:
        assert denoiser is not None and noise is not None
        terms["denoising"] = _denoising(denoiser, batch, given[0], noise, params)
    return terms | text_terms(given, batch, params, probes)


def text_terms(
    given: Given, batch: Batch, params: TrainAdapterParams, probes: Sequence[Probe]
) -> dict[str, torch.Tensor]:
    """Those of them that need no picture, of what a student gave."""
    embeddings, features, aim = given
    terms = {}
    if params.attention_weight:
        assert batch.complex is not None
        root = params.attention_distance == "root"
        terms["attention"] = attention_error(
            probes, embeddings, batch.complex, batch.complex_mask, root=root
        )
    if params.llm_weight:
        assert aim is not None
        terms["llm"] = distance(features, aim)
    if params.prompt_weight:
        assert batch.complex is not None
        first = batch.complex[:, : embeddings.shape[1]]  # token by token, so of one window
        terms["prompt"] = distance(embeddings, first)
    return terms


def without_pictures(params: TrainAdapterParams) -> list[str]:
    """The losses with a weight that need no picture."""
    return [name for name in TERMS if name != "denoising" and getattr(params, f"{name}_weight")]


def weighed(terms: Mapping[str, torch.Tensor], params: TrainAdapterParams) -> torch.Tensor:
    """The sum that is minimised."""
    parts = [getattr(params, f"{name}_weight") * term for name, term in terms.items()]
    return torch.stack(parts).sum()


def _denoising(
    denoiser: Denoiser,
    batch: Batch,
    embeddings: torch.Tensor,
    noise: Noise,
    params: TrainAdapterParams,
) -> torch.Tensor:
    """Squared error of the prediction made from `embeddings` ``[b, s, d]``."""
    assert batch.latents is not None
    latents, schedule = denoiser.scaled(batch.latents), denoiser.schedule
    given = (embeddings, batch.pooled, noise.values, noise.times)
    said = denoiser.unet(**denoiser.arguments(latents, *given))
    kind = schedule.config.prediction_type
    wanted = noise.values
    if kind != "epsilon":
        wanted = schedule.get_velocity(latents, noise.values, noise.times)
    error = functional.mse_loss(said.sample.float(), wanted.float(), reduction="none")
    error = error.mean(dim=(1, 2, 3))
    if params.snr_gamma is not None:
        from diffusers.training_utils import compute_snr

        error = error * min_snr(compute_snr(schedule, noise.times), params.snr_gamma, kind)
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
