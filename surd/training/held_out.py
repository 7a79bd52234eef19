"""The loss on samples that are not learned from, as a share of what it is without an adapter.

The denoising loss is left out: it needs pictures, and little of it depends on the text.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.attention import Probe
from surd.training.data import Data
from surd.training.logs import LOSS
from surd.training.losses import Batch, Given, text_terms, without_pictures
from surd.training.samples import Sample

_SAMPLES = 256
_AT_ONCE = 16


def chosen(samples: Sequence[Sample], seed: int) -> list[Sample]:
    """Those that the loss is computed on, with their published captions: the same each time."""
    order = np.random.default_rng((seed, 6)).permutation(len(samples))[:_SAMPLES]
    return [samples[row] for row in sorted(order.tolist())]


@dataclass(frozen=True)
class HeldOut:
    """Samples of the validation split, and their losses without an adapter."""

    samples: Sequence[Sample]
    data: Data
    params: TrainAdapterParams
    probes: Sequence[Probe]
    base: Mapping[str, float]

    def measured(self, student: Any, device: Any) -> dict[str, float]:
        """The loss and, of several, its terms, over those of the base model.

        The student is left in evaluation mode, the random state as it was.
        """
        student.eval()
        found = _means(
            self.data,
            self.samples,
            self.params,
            self.probes,
            device,
            student,
        )
        weights = {name: getattr(self.params, f"{name}_weight") for name in found}
        whole = sum(weights[name] * value for name, value in found.items())
        base = sum(weights[name] * self.base[name] for name in found)
        shares = {f"validation_{name}": v / self.base[name] for name, v in found.items()}
        return {LOSS: whole / base} | (shares if len(shares) > 1 else {})


def held_out(
    samples: Sequence[Sample],
    data: Data,
    params: TrainAdapterParams,
    probes: Sequence[Probe],
    student: Any,
    device: Any,
) -> HeldOut | None:
    """With the losses of the base model: of its own text embeddings, and of the features of a
    `student` that has learned nothing. None without samples, or without a loss that needs no
    picture."""
    if not samples or not without_pictures(params):
        return None
    student.eval()

    def without(batch: Batch) -> Given:
        _, features, aim = student(batch)
        return batch.simple, features, aim

    base = _means(data, samples, params, probes, device, without)
    return HeldOut(samples, data, params, probes, {k: max(v, 1e-12) for k, v in base.items()})


@torch.no_grad()
def _means(
    data: Data,
    samples: Sequence[Sample],
    params: TrainAdapterParams,
    probes: Sequence[Probe],
    device: Any,
    given: Callable[[Batch], Given],
) -> dict[str, float]:
    """Each term's mean over the samples; what is random in it is the same each time."""
    device = torch.device(device)
    sums: dict[str, float] = defaultdict(float)
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(params.seed)
        for rows in np.array_split(np.arange(len(samples)), math.ceil(len(samples) / _AT_ONCE)):
            some = [samples[row] for row in rows]  # one alone would have its own states, shuffled
            batch = data.of(some, [sample.captions[0] for sample in some], device)
            for name, value in text_terms(given(batch), batch, params, probes).items():
                sums[name] += float(value) * len(some) / len(samples)
    return dict(sums)
