"""NaN and infinity: no training goes on from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from surd.errors import ModelError
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.losses import Batch

_GIVEN = ("latents", "simple", "complex", "llm", "read")
"""What a batch holds of its samples."""
_OF_LLM = ("llm", "read")
"""Those that embed-llm wrote."""

_USUAL_RATE = 1e-4


def damaged_vectors(params: TrainAdapterParams) -> str:
    """Where NaN or infinity in a language model's vectors comes from, and the mend."""
    return (
        f"the vectors of {params.llm} hold some, which embed-llm never keeps, so their copy is "
        "damaged; delete vectors-*.npy in their folder below llm, and it is made anew"
    )


def check_finite(
    params: TrainAdapterParams,
    accelerator: Any,
    step: int,
    losses: Mapping[str, torch.Tensor],
    norm: torch.Tensor | None,
    batch: Batch,
) -> None:
    """Raises ModelError where a loss, or the `norm` of the gradient, is not finite.

    It says in which step, and the likely cause.
    """
    for name, value in losses.items():
        if not value.isfinite():
            what = "the loss" if name == "loss" else f"the {name} loss"
            raise _error(params, accelerator, step, what, batch)
    if norm is not None and not norm.isfinite() and not _will_scale_down(accelerator):
        raise _error(params, accelerator, step, "the gradient", batch)


def _will_scale_down(accelerator: Any) -> bool:
    """In fp16 a gradient may overflow: the step is left out, and the next one is scaled less."""
    return accelerator.scaler is not None and accelerator.scaler.get_scale() >= 1


def check_weights(
    params: TrainAdapterParams,
    accelerator: Any,
    step: int,
    weights: Iterable[torch.Tensor],
    given: torch.Tensor,
) -> None:
    """Raises ModelError before weights are written that are not finite, or make `given`, which
    the adapter gives with them, so."""
    if not all(weight.isfinite().all() for weight in weights):
        raise _error(params, accelerator, step, "a weight of the adapter")
    if not given.isfinite().all():
        raise _error(params, accelerator, step, "what the adapter now gives")


def _error(
    params: TrainAdapterParams, accelerator: Any, step: int, what: str, batch: Batch | None = None
) -> ModelError:
    wrong = [] if batch is None else [name for name in _GIVEN if not _is_finite(batch, name)]
    if wrong and wrong[0] in _OF_LLM:
        why = damaged_vectors(params)
    elif wrong:
        why = (
            f"the {wrong[0]} of its samples already are; check that {params.diffusion} draws "
            "anything without an adapter"
        )
    elif accelerator.mixed_precision == "fp16":
        why = (
            "fp16 overflows easily; rerun with --set train_adapter.precision=bf16, or no, and "
            "--resume none"
        )
    elif step == 1 and batch is not None:
        why = (
            "nothing was learned before, so check that "
            f"{params.diffusion} draws anything without an adapter"
        )
    else:
        why = (
            "the learning rate is probably too high; rerun with --learning-rate "
            f"{min(params.learning_rate / 10, _USUAL_RATE):g} --resume none"
        )
    return ModelError(f"step {step}: {what} is NaN or infinite: {why}")


def _is_finite(batch: Batch, name: str) -> bool:
    given = getattr(batch, name)
    return given is None or bool(given.isfinite().all())
