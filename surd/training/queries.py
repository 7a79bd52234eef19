"""What a UNet asks its cross-attention layers: noted from a few pictures once, and kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from surd.models.hub import identity_of
from surd.models.memory import enough_memory
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.attention import Asked, Probe, ask, layers_of
from surd.training.data import seed_of
from surd.training.frozen import Denoiser, on_device, unet_dtype
from surd.training.latents import Cut, encode_pictures, pictures_at_once
from surd.training.parts import is_whole, shared_folder, write_part
from surd.training.samples import Sample
from surd.training.texts import Texts
from surd.training.views import Picture
from surd.untrusted import parse_json

_PICTURES = 64
_POSITIONS = 64
"""Of each picture, in each layer; every picture has another level of noise."""
_FILE = "queries.safetensors"


@dataclass(frozen=True)
class Examples:
    """Pictures to look at, with the complex prompts that they were made from."""

    samples: Sequence[Sample]
    texts: Texts
    read: Callable[[Sequence[int]], list[Picture]]
    side: int
    """In pixels."""
    seed: int

    def chosen(self) -> list[Sample]:
        """A few, in an order of the seed's; of few samples each several times."""
        order = np.random.default_rng((self.seed, 4)).permutation(len(self.samples))
        return [self.samples[order[number % len(order)]] for number in range(_PICTURES)]


def probes_of(
    denoiser: Denoiser,
    vae: Any,
    examples: Examples,
    params: TrainAdapterParams,
    folder: Path | None,
    accelerator: Any,
) -> list[Probe]:
    """The UNet's layers on the device, with what they are asked.

    With a folder, that is computed by the first run of those settings alone. Raises ModelError
    where memory runs out, or the UNet gives what is no number.
    """

    def compute() -> dict[str, Asked]:
        with enough_memory(
            f"not enough memory to run the UNet on one picture of {examples.side} pixels; set a "
            "smaller train_adapter.resolution, or use a GPU with more memory"
        ):
            return _asked(denoiser, vae, examples, accelerator)

    if folder is None:
        asked = compute()
    else:
        asked = _kept(
            folder / f"queries-{_key(examples, params, accelerator)}", accelerator, compute
        )
    device, dtype = accelerator.device, unet_dtype(accelerator)
    return [
        Probe(
            layer.to(device, dtype),
            Asked(asked[name].queries.half().to(device, dtype), asked[name].variance),
        )
        for name, layer in layers_of(denoiser.unet).items()
    ]


def _key(examples: Examples, params: TrainAdapterParams, accelerator: Any) -> str:
    """Of all that the queries depend on."""
    shown = [(sample.id, sample.complex) for sample in examples.chosen()]
    precision = str(unet_dtype(accelerator))
    about = [identity_of(params.diffusion), precision, examples.side, examples.seed, shown]
    about += [_PICTURES, _POSITIONS]
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]


def _kept(
    place: Path, accelerator: Any, compute: Callable[[], dict[str, Asked]]
) -> dict[str, Asked]:
    """Out of the folder's file, which the team's first process writes where it is not there."""
    with shared_folder(place, accelerator) as storage:
        if accelerator.process_index == 0 and not is_whole(storage, _FILE):
            asked = compute()
            tensors = {name: one.queries for name, one in asked.items()}
            variances = {name: one.variance for name, one in asked.items()}
            about = {"variances": json.dumps(variances)}
            write_part(storage, _FILE, tensors, lambda row: f"query {row} of the UNet", about)
        accelerator.wait_for_everyone()
    path = place / _FILE
    with safe_open(path, "pt") as file:
        variances = parse_json(file.metadata()["variances"])
    return {name: Asked(queries, variances[name]) for name, queries in load_file(path).items()}


def _asked(denoiser: Denoiser, vae: Any, examples: Examples, accelerator: Any) -> dict[str, Asked]:
    device, chosen = accelerator.device, examples.chosen()
    generator = torch.Generator().manual_seed(seed_of(examples.seed, 0, 0, 4))
    rows = sorted({sample.row for sample in chosen})
    with on_device(device, vae):
        cut = Cut(examples.side, flip=False)
        at_once = pictures_at_once(examples.side)
        encoded = encode_pictures(vae, examples.read(rows), cut, at_once)[:, 0].cpu()
    latents = denoiser.scaled(encoded.chunk(2, dim=1)[0])  # the means, [rows, c, h, w]
    levels = denoiser.schedule.config.num_train_timesteps
    order = torch.randperm(_PICTURES, generator=generator).tolist()

    def runs() -> Iterator[tuple[dict[str, Any], torch.Tensor]]:
        for number, sample in enumerate(chosen):
            one = latents[rows.index(sample.row)][None]
            noise = torch.randn(one.shape, generator=generator)
            share = (order[number] + float(torch.rand(1, generator=generator))) / _PICTURES
            times = torch.tensor([int(share * levels)])
            places = torch.randint(2**31, (_POSITIONS,), generator=generator)
            said = examples.texts.take([sample.complex])
            pooled = said.pooled.to(device) if said.pooled is not None else None
            given = (one.to(device), said.states.to(device), pooled, noise.to(device))
            yield denoiser.arguments(*given, times.to(device)), places.to(device)

    with on_device(device, denoiser.unet):
        return ask(denoiser.unet, runs(), accelerator.autocast)
