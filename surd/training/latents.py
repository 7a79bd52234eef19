"""What the autoencoder says of a dataset's pictures: computed once, or as it is asked for.

On disk each part is a safetensors file of ``latents`` ``[n, variants, 2 c, h, w]`` float16: means,
then standard deviations of the autoencoder's Gaussian.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from surd.dataset.published import Published
from surd.errors import SurdError
from surd.models.hub import identity_of
from surd.models.memory import AtOnce
from surd.progress import Tick
from surd.training.parts import Alone, Team, is_whole, shared_folder, write_part
from surd.training.views import Picture, picture_reader, views
from surd.untrusted import parse_json

_PIXELS_AT_ONCE = 8 * 512 * 512
"""Of the pictures that an autoencoder is given together, in the beginning."""
_PART_ROWS = 64


@dataclass(frozen=True)
class Cut:
    """Which squares of a picture are encoded; see `views`."""

    side: int
    """In pixels."""
    flip: bool
    crops: int = 1
    seed: int = 0

    @property
    def variants(self) -> int:
        """Of each picture: crops and mirror images."""
        return self.crops * (2 if self.flip else 1)


class Latents(Protocol):
    """Of a split's pictures, by their rows."""

    @property
    def variants(self) -> int:
        """Of each picture."""

    def take(self, rows: Sequence[int], variants: Sequence[int]) -> torch.Tensor:
        """``[n, 2 c, h, w]`` float32 on the CPU, of one variant each."""


@dataclass(frozen=True)
class CachedLatents:
    """Out of a folder's parts."""

    parts: list[torch.Tensor]
    """``[_PART_ROWS, variants, 2 c, h, w]`` float16, mapped from disk."""
    variants: int

    def take(self, rows: Sequence[int], variants: Sequence[int]) -> torch.Tensor:
        """See `Latents`."""
        places = [divmod(row, _PART_ROWS) for row in rows]
        pairs = zip(places, variants, strict=True)
        return torch.stack([self.parts[part][row, chosen] for (part, row), chosen in pairs]).float()


@dataclass(frozen=True)
class FreshLatents:
    """Encoded as they are asked for."""

    vae: Any
    cut: Cut
    read: Callable[[Sequence[int]], list[Picture]]
    at_once: AtOnce

    @property
    def variants(self) -> int:
        """See `Latents`."""
        return self.cut.variants

    def take(self, rows: Sequence[int], variants: Sequence[int]) -> torch.Tensor:
        """See `Latents`. Raises SurdError where a file or a picture cannot be read."""
        found = encode_pictures(self.vae, self.read(rows), self.cut, self.at_once, variants)
        return found[:, 0].cpu()


def fresh_latents(dataset: Published, split: str, vae: Any, cut: Cut) -> FreshLatents:
    """Those of a split, of which nothing is computed yet."""
    return FreshLatents(vae, cut, picture_reader(dataset, split), pictures_at_once(cut.side))


def cached_latents(
    dataset: Published,
    split: str,
    vae: Any,
    diffusion: str,
    cut: Cut,
    folder: Path,
    team: Team | None = None,
    tick: Tick = lambda counts: None,
) -> CachedLatents:
    """Encode what is not there yet or damaged, and open all of it.

    The folder's name holds a hash of everything the content depends on, so other settings have
    another folder. Each process of a team encodes every so many parts; another team that wants the
    same waits for this one. Raises SurdError.
    """
    team = team or Alone()
    digests = [file["sha256"] for file in dataset.files if file["split"] == split]
    about = [identity_of(diffusion), split, digests, asdict(cut)]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
    place = folder / f"latents-{key}"
    rows = dataset.splits.get(split, 0)
    read, at_once = picture_reader(dataset, split), pictures_at_once(cut.side)
    with shared_folder(place, team) as storage:
        of_others = 0
        for number, first in enumerate(range(0, rows, _PART_ROWS)):
            numbers = range(first, min(first + _PART_ROWS, rows))
            name = f"part-{number:05d}.safetensors"
            if number % team.num_processes != team.process_index:
                of_others += len(numbers)
                continue
            if not is_whole(storage, name):
                pictures = read(numbers)
                ids = [picture.id for picture in pictures]
                latents = encode_pictures(vae, pictures, cut, at_once)
                write_part(
                    storage,
                    name,
                    {"latents": latents},
                    lambda row, ids=ids: f"sample {ids[row]}",  # type: ignore[misc]
                    {"ids": json.dumps(ids)},
                )
            tick({"ok": len(numbers)})
        team.wait_for_everyone()
        tick({"ok": of_others})
    return _opened(place, rows, cut.variants)


def _opened(place: Path, rows: int, variants: int) -> CachedLatents:
    paths = sorted(place.glob("part-*.safetensors"))
    held = 0
    for path in paths:
        with safe_open(path, "pt") as file:
            held += len(parse_json(file.metadata()["ids"]))
    if held != rows:
        raise SurdError(
            f"{place}: holds {held} of {rows} samples; delete it, and make sure that all "
            "processes see the same folder"
        )
    return CachedLatents([load_file(path)["latents"] for path in paths], variants)


def pictures_at_once(side: int) -> AtOnce:
    """How many pictures of that side an autoencoder is given together."""
    return AtOnce(_PIXELS_AT_ONCE // side**2)


@torch.no_grad()
def encode_pictures(
    vae: Any,
    pictures: Sequence[Picture],
    cut: Cut,
    at_once: AtOnce,
    chosen: Sequence[int] | None = None,
) -> torch.Tensor:
    """``[n, variants, 2 c, h, w]`` float32; with one `chosen` variant of each, of those alone.

    Raises ModelError when the memory does not suffice for one picture.
    """
    every = [
        views(one, cut.side, flip=cut.flip, crops=cut.crops, seed=cut.seed) for one in pictures
    ]
    if chosen is not None:
        every = [some[[one]] for some, one in zip(every, chosen, strict=True)]
    return torch.cat(at_once.each(partial(_latents, vae), every, _too_large))


def _latents(vae: Any, pictures: Sequence[torch.Tensor]) -> torch.Tensor:
    """Of some pictures' views: ``[n, variants, 2 c, h, w]`` float32."""
    pixels = torch.stack(list(pictures), dim=1)  # [variants, n, 3, h, w]
    found = []
    for some in pixels:
        gaussian = vae.encode(some.to(vae.device, vae.dtype)).latent_dist
        found.append(torch.cat([gaussian.mean, gaussian.std], dim=1).float())
    return torch.stack(found, dim=1)


def _too_large(views: torch.Tensor) -> str:
    return (
        f"not enough memory to encode even one picture of {views.shape[-1]} pixels; set a "
        "smaller train_adapter.resolution, or use a GPU with more memory"
    )
