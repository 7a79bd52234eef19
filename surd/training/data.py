"""What an adapter is trained on: the encoded dataset beside the language model's vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from surd.llm.embeddings import Embeddings
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.losses import Batch
from surd.training.sentences import Spoken


class Source(Protocol):
    """An encoded split, out of a cache or computed as it is asked for."""

    @property
    def ids(self) -> Sequence[str]:
        """Of the samples, row by row."""

    @property
    def variants(self) -> int:
        """Of each picture."""

    def take(self, rows: Sequence[int], variants: Sequence[int]) -> dict[str, torch.Tensor]:
        """``latents`` ``[b, 2 c, h, w]`` of one variant each, ``simple``, ``complex``, ``pooled``.

        They are float32 on the CPU.
        """


class Data:
    """The encoded dataset beside the language model's vectors: batches by number."""

    def __init__(
        self,
        source: Source,
        vectors: Embeddings,
        pipeline: Any,
        params: TrainAdapterParams,
        spoken: Spoken | None = None,
    ) -> None:
        self._spoken = spoken
        self._source, self._vectors, self._params = source, vectors, params
        self.rows = [row for row, id_ in enumerate(source.ids) if id_ in vectors]
        config = pipeline.vae.config
        self._scale = config.scaling_factor
        self._shift = getattr(config, "shift_factor", None) or 0.0
        self._pixels = pipeline.vae_scale_factor
        self._epoch = -1
        self._order: list[int] = []

    def batch(self, number: int, processes: int, process: int, device: torch.device) -> Batch:
        """What one process learns from in one micro step."""
        size = self._params.batch_size
        rows = [self._row((number * processes + process) * size + i) for i in range(size)]
        generator = _generator(self._params.seed, number, process, 1)
        variants = torch.randint(self._source.variants, (size,), generator=generator)
        tensors = self._source.take(rows, variants.tolist())
        mean, std = tensors["latents"].chunk(2, dim=1)
        drawn = mean + std * torch.randn(mean.shape, generator=generator)
        scaled = (drawn - self._shift) * self._scale
        ids = [self._source.ids[row] for row in rows]
        llm = torch.from_numpy(self._vectors.take(ids).astype(np.float32))[:, None]
        if self._spoken is not None:
            tensors |= self._said_otherwise(ids, self._spoken, generator)
        pooled = tensors.get("pooled")
        complex_ones = torch.rand(size, generator=generator) < self._params.complex_share
        simple = torch.where(complex_ones[:, None, None], tensors["complex"], tensors["simple"])
        return Batch(
            scaled.to(device),
            simple.to(device),
            tensors["complex"].to(device),
            llm.to(device),
            pooled.to(device) if pooled is not None else None,
            mean.shape[-1] * self._pixels,
        )

    def _said_otherwise(
        self, ids: Sequence[str], spoken: Spoken, generator: torch.Generator
    ) -> dict[str, torch.Tensor]:
        """``simple``, and ``pooled`` of SDXL, of one caption of each sample."""
        drawn = torch.rand(len(ids), generator=generator).tolist()
        captions = [spoken.sentences[id_] for id_ in ids]
        chosen = [some[int(share * len(some))] for some, share in zip(captions, drawn, strict=True)]
        encoded = spoken.encode(chosen)
        found = {"simple": encoded.states.float().cpu()}
        return found if encoded.pooled is None else found | {"pooled": encoded.pooled.float().cpu()}

    def noise(
        self, number: int, process: int, batch: Batch, times: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise ``[b, c, h, w]`` and timesteps ``[b]`` of a micro step."""
        generator = _generator(self._params.seed, number, process, 2)
        shape = batch.latents.shape
        noise = torch.randn(shape, generator=generator)
        if self._params.noise_offset:
            offset = torch.randn((*shape[:2], 1, 1), generator=generator)
            noise = noise + self._params.noise_offset * offset
        when = torch.randint(times, (shape[0],), generator=generator)
        return noise.to(batch.latents.device), when.to(batch.latents.device)

    def _row(self, position: int) -> int:
        """The row at a position of an endless stream of shuffled epochs."""
        epoch, place = divmod(position, len(self.rows))
        if self._epoch != epoch:
            rng = np.random.default_rng((self._params.seed, epoch))
            self._epoch, self._order = epoch, rng.permutation(self.rows).tolist()
        return self._order[place]


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(*numbers))


def seed_of(*numbers: int) -> int:
    """One seed of several numbers: the run's, the micro step's, the process's, the purpose's."""
    (mixed,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    seed: int = int(mixed) >> 1
    return seed
