"""What the frozen parts of a diffusion model say of a dataset, computed when it is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from surd.dataset.published import Published, batches
from surd.training.cache import Sample, encode_samples, pictures_at_once, sample_reader


@dataclass(frozen=True)
class Fresh:
    """A split that is encoded batch by batch; it serves wherever a cached one does."""

    ids: list[str]
    variants: int
    """Of each picture: crops and mirror images."""
    read: Callable[[Sequence[int]], list[Sample]]
    encode: Callable[..., dict[str, torch.Tensor]]

    def take(
        self, rows: Sequence[int], variants: Sequence[int] | None = None
    ) -> dict[str, torch.Tensor]:
        """The tensors of some rows as `Cached.take` gives them, on the CPU.

        Raises SurdError where a file or a picture cannot be read.
        """
        found = self.encode(self.read(rows), chosen=variants)
        return {name: tensor.float().cpu() for name, tensor in found.items()}


def open_fresh(
    dataset: Published,
    split: str,
    pipeline: Any,
    *,
    resolution: int,
    flip: bool,
    crops: int = 1,
    seed: int = 0,
) -> Fresh:
    """Read the split's ids, and nothing else yet. Raises SurdError."""
    encode = partial(
        encode_samples,
        pipeline,
        resolution=resolution,
        flip=flip,
        crops=crops,
        seed=seed,
        at_once=pictures_at_once(resolution),
    )
    variants = crops * (2 if flip else 1)
    return Fresh(ids_of(dataset, split), variants, sample_reader(dataset, split), encode)


def ids_of(dataset: Published, split: str) -> list[str]:
    """The split's ids, row by row. Raises SurdError."""
    return [id_ for table in batches(dataset, split, ["id"]) for id_ in table["id"].to_pylist()]
