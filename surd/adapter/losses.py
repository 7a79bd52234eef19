"""What the adapter is taught, beside the denoising loss."""

from __future__ import annotations

from typing import Literal

import torch
from torch.nn import functional

Distance = Literal["kl", "cosine", "mse"]


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
