"""What an adapter is trained on: batches by number, of what the frozen models said."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import numpy.typing as npt
import torch

from surd.adapter.language import padded
from surd.adapter.module import normalised
from surd.errors import ModelError
from surd.llm.embeddings import TextVectors
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.checks import reads_llm
from surd.training.finite import damaged_vectors
from surd.training.latents import Latents
from surd.training.losses import Batch, Noise
from surd.training.samples import Sample, Windows, needs_complex
from surd.training.texts import Texts

_SPREAD_TEXTS = 4096


class Data:
    """Samples beside the states of their texts, and what else the losses in use need: latents for
    the denoising loss, vectors for the language model's."""

    def __init__(
        self,
        samples: Sequence[Sample],
        texts: Texts,
        params: TrainAdapterParams,
        *,
        latents: Latents | None = None,
        vectors: TextVectors | None = None,
        windows: Windows | None = None,
    ) -> None:
        """`windows` are of the complex prompts; those that are not among them are one."""
        self.samples, self.texts = samples, texts
        self._windows: Windows = windows or {}
        self._latents, self._vectors, self._params = latents, vectors, params
        self._epoch = -1
        self._order: list[int] = []

    @property
    def llm_width(self) -> int | None:
        """h of the vectors that the features learn from; None where none are learned from."""
        return self._vectors.width if self._vectors and self._params.llm_weight else None

    def batch(self, number: int, processes: int, process: int, device: torch.device) -> Batch:
        """What one process learns from in one micro step."""
        params, size = self._params, self._params.batch_size
        first = (number * processes + process) * size
        samples = [self.samples[self._place(first + i)] for i in range(size)]
        generator = _generator(params.seed, number, process, 5)
        texts = [self._text(sample, generator) for sample in samples]
        latents = self._drawn_latents(samples, number, process, device)
        read = self._swapped(samples, texts, _generator(params.seed, number, process, 6))
        return self.of(samples, texts, device, latents, read)

    def of(
        self,
        samples: Sequence[Sample],
        texts: Sequence[str],
        device: torch.device,
        latents: torch.Tensor | None = None,
        read: Sequence[str] | None = None,
    ) -> Batch:
        """Samples with the texts that stand for them, and those, if others, whose states a
        language model gives."""
        simple = self.texts.take(texts)
        return Batch(
            latents=latents,
            simple=simple.states.to(device),
            **self._aims(samples, device),
            llm=self._llm(texts, device),
            pooled=simple.pooled.to(device) if simple.pooled is not None else None,
            **self._read(read or texts, device),
            texts=tuple(texts),
        )

    def _aims(
        self, samples: Sequence[Sample], device: torch.device
    ) -> dict[str, torch.Tensor | None]:
        """The states of the complex prompts, window after window, and their mask."""
        if not needs_complex(self._params):
            return {"complex": None, "complex_mask": None}
        windows = [self._windows.get(one.complex, (one.complex,)) for one in samples]
        most = max(map(len, windows))
        if most == 1:
            states = self.texts.take([window for (window,) in windows]).states
            return {"complex": states.to(device), "complex_mask": None}
        padded = [[*some, *[some[0]] * (most - len(some))] for some in windows]
        states = self.texts.take([window for some in padded for window in some]).states
        tokens, width = states.shape[1:]
        there = torch.arange(most) < torch.tensor([*map(len, windows)])[:, None]  # [b, k]
        mask = there.repeat_interleave(tokens, dim=1)  # [b, k s]
        whole = states.reshape(len(samples), most * tokens, width) * mask[..., None]
        return {"complex": whole.to(device), "complex_mask": mask.to(device)}

    def _text(self, sample: Sample, generator: torch.Generator) -> str:
        """What stands for a sample: one of its captions, or now and then its complex prompt."""
        as_complex, which = torch.rand(2, generator=generator).tolist()
        if as_complex < self._params.complex_share:
            return sample.complex
        return sample.captions[int(which * len(sample.captions))]

    def _swapped(
        self, samples: Sequence[Sample], texts: Sequence[str], generator: torch.Generator
    ) -> list[str]:
        """The texts, but captions of any samples for some of those that are complex prompts."""
        read = []
        for sample, text in zip(samples, texts, strict=True):
            swapped, which, caption = torch.rand(3, generator=generator).tolist()
            if text == sample.complex and swapped < self._params.llm_swap:
                others = self.samples[int(which * len(self.samples))].captions
                text = others[int(caption * len(others))]
            read.append(text)
        return read

    def _drawn_latents(
        self, samples: Sequence[Sample], number: int, process: int, device: torch.device
    ) -> torch.Tensor | None:
        """``[b, c, h, w]`` drawn from the autoencoder's Gaussian, not scaled yet."""
        if self._latents is None:
            return None
        generator = _generator(self._params.seed, number, process, 1)
        chosen = torch.randint(self._latents.variants, (len(samples),), generator=generator)
        found = self._latents.take([sample.row for sample in samples], chosen.tolist())
        mean, std = found.chunk(2, dim=1)
        return (mean + std * torch.randn(mean.shape, generator=generator)).to(device)

    def _llm(self, texts: Sequence[str], device: torch.device) -> torch.Tensor | None:
        """``[b, 1, h]``, centred."""
        if self.llm_width is None:
            return None
        return torch.from_numpy(self.centred(texts))[:, None].to(device)

    def centred(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """The vectors of texts, ``[n, h]``, less the mean of all that are trained on, which is most
        of each; of texts with a vector per token, the last token's."""
        return np.stack([self._vector(text) for text in texts]) - self._mean

    def _vector(self, text: str) -> npt.NDArray[np.float32]:
        assert self._vectors is not None
        return np.asarray(self._vectors[text][-1], np.float32)

    @cached_property
    def _mean(self) -> npt.NDArray[np.float32]:
        """``[h]``, of the distinct texts that may be drawn."""
        total, count = np.zeros(1, np.float64), 0
        for text in self.texts_drawn():
            total, count = total + self._vector(text), count + 1
        return np.asarray(total / count, np.float32)

    def texts_drawn(self) -> list[str]:
        """The distinct texts that stand for samples."""
        also_complex = self._params.complex_share > 0
        return list(
            dict.fromkeys(
                text
                for one in self.samples
                for text in (*one.captions, *((one.complex,) if also_complex else ()))
            )
        )

    def llm_spread(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and standard deviation ``[h]`` of the states of tokens as a reader sees them,
        without each text's first; of some thousands of the distinct texts that may be drawn. Raises
        ModelError where they are not finite."""
        assert self._vectors is not None
        texts = self.texts_drawn()
        count, total = 0, torch.zeros(2, self._vectors.width, dtype=torch.float64)
        for text in texts[:: len(texts) // _SPREAD_TEXTS + 1]:
            states = torch.from_numpy(np.asarray(self._vectors[text][1:], np.float32))
            seen = normalised(states).double()
            total += torch.stack([seen.sum(0), seen.square().sum(0)])
            count += len(seen)
        if not count:
            return torch.zeros(self._vectors.width), torch.ones(self._vectors.width)
        mean, square = total / count
        if not square.isfinite().all():
            raise ModelError(f"NaN or infinity: {damaged_vectors(self._params)}")
        return mean.float(), (square - mean.square()).clamp(min=1e-6).sqrt().float()

    def _read(self, texts: Sequence[str], device: torch.device) -> dict[str, torch.Tensor]:
        """The token states that a reader reads, and their mask."""
        if self._vectors is None or not reads_llm(self._params):
            return {}
        if self._params.llm_states == "shuffled":
            texts = [*texts[1:], *texts[:1]]
        states, mask = padded([self._vectors[text] for text in texts], self._vectors.width)
        return {"read": states.to(device), "read_mask": mask.to(device)}

    def noise(self, number: int, process: int, latents: torch.Tensor, times: int) -> Noise:
        """Of a micro step, on the device of `latents` ``[b, c, h, w]``."""
        generator = _generator(self._params.seed, number, process, 2)
        noise = torch.randn(latents.shape, generator=generator)
        if self._params.noise_offset:
            offset = torch.randn((*latents.shape[:2], 1, 1), generator=generator)
            noise = noise + self._params.noise_offset * offset
        when = torch.randint(times, (len(latents),), generator=generator)
        return Noise(noise.to(latents.device), when.to(latents.device))

    def _place(self, position: int) -> int:
        """The sample at a position of an endless stream of shuffled epochs."""
        epoch, place = divmod(position, len(self.samples))
        if self._epoch != epoch:
            rng = np.random.default_rng((self._params.seed, epoch))
            self._epoch, self._order = epoch, rng.permutation(len(self.samples)).tolist()
        return self._order[place]


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed_of(*numbers))


def seed_of(*numbers: int) -> int:
    """One seed of several numbers: the run's, the micro step's, the process's, the purpose's."""
    (mixed,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    seed: int = int(mixed) >> 1
    return seed
