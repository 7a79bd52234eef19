"""What the frozen parts of a diffusion model say of a dataset, computed once, in parts.

Each part is a safetensors file of ``latents`` ``[n, variants, 2 c, h, w]`` (means, then standard
deviations of the autoencoder's Gaussian), ``simple`` and ``complex`` ``[n, s, d]``, and for SDXL
``pooled`` ``[n, p]``; all float16.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from surd.adapter.encoding import encode
from surd.dataset.published import Published, row_reader
from surd.errors import ModelError, SurdError
from surd.files.images import decode
from surd.models.hub import identity_of
from surd.models.memory import AtOnce
from surd.models.weights import why_damaged
from surd.progress import Tick
from surd.store.storage import Storage

_PIXELS_AT_ONCE = 8 * 512 * 512
"""Of the pictures that an autoencoder is given together, in the beginning."""
_COLUMNS = ("id", "image", "simple_prompt", "complex_prompt")


@dataclass(frozen=True)
class Sample:
    """One row of the published dataset."""

    id: str
    image: bytes
    simple: str
    complex: str


@dataclass(frozen=True)
class Cached:
    """A split, encoded."""

    ids: list[str]
    tensors: list[dict[str, torch.Tensor]]
    """One for each part, mapped from disk."""
    starts: npt.NDArray[np.int64]
    """Row at which each part begins."""

    @property
    def variants(self) -> int:
        """Of each picture: crops and mirror images."""
        return int(self.tensors[0]["latents"].shape[1])

    def take(
        self, rows: Sequence[int], variants: Sequence[int] | None = None
    ) -> dict[str, torch.Tensor]:
        """The tensors of some rows, stacked, float32.

        With one of the `variants` for each row, ``latents`` are ``[n, 2 c, h, w]``.
        """
        places = np.searchsorted(self.starts, rows, side="right") - 1
        picked = [
            {name: tensor[row - self.starts[part]] for name, tensor in self.tensors[part].items()}
            for row, part in zip(rows, places, strict=True)
        ]
        for one, variant in zip(picked, variants or (), strict=variants is not None):
            one["latents"] = one["latents"][variant]
        return {name: torch.stack([one[name] for one in picked]).float() for name in picked[0]}


class Team(Protocol):
    """Processes that work on the same run; accelerate's Accelerator is one."""

    @property
    def process_index(self) -> int:
        """Of this one, from 0."""

    @property
    def num_processes(self) -> int:
        """Of the team."""

    def wait_for_everyone(self) -> None:
        """Return when all have come here."""


@dataclass(frozen=True)
class Alone:
    """A team of one."""

    process_index: int = 0
    num_processes: int = 1

    def wait_for_everyone(self) -> None:
        """There is nobody to wait for."""


def build_cache(
    dataset: Published,
    split: str,
    pipeline: Any,
    diffusion: str,
    folder: Path,
    *,
    resolution: int,
    flip: bool,
    crops: int = 1,
    seed: int = 0,
    batch: int,
    team: Team | None = None,
    tick: Tick = lambda counts: None,
) -> Cached:
    """Encode what is not there yet or damaged, and open all of it.

    The folder's name holds a hash of everything the content depends on, so other settings have
    another folder. `crops` and `seed` are those of `views`. Each process of a team encodes every
    so many parts; another team that wants the same cache waits for this one. Raises SurdError.
    """
    team = team or Alone()
    about = [identity_of(diffusion), resolution, flip, split]
    about += [file["sha256"] for file in dataset.files if file["split"] == split]
    about += [crops, seed] if crops > 1 else []
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
    place = folder / key
    storage = Storage(str(place))
    rows = dataset.splits.get(split, 0)
    read, at_once = sample_reader(dataset, split), pictures_at_once(resolution)
    main = team.process_index == 0
    with _locked(place) if main else nullcontext():
        if main:
            storage.remove_leftovers(".")
        team.wait_for_everyone()
        of_others = 0
        for number, first in enumerate(range(0, rows, batch)):
            numbers = range(first, min(first + batch, rows))
            name = f"part-{number:05d}.safetensors"
            if number % team.num_processes != team.process_index:
                of_others += len(numbers)
                continue
            if not storage.exists(name) or why_damaged(place / name) is not None:
                samples = read(numbers)
                tensors = encode_samples(
                    pipeline,
                    samples,
                    resolution=resolution,
                    flip=flip,
                    crops=crops,
                    seed=seed,
                    at_once=at_once,
                )
                _write_part(storage, name, samples, tensors)
            tick({"ok": len(numbers)})
        team.wait_for_everyone()
        tick({"ok": of_others})
    cached = open_cache(place)
    if len(cached.ids) != rows:
        raise SurdError(
            f"{place}: holds {len(cached.ids)} of {rows} samples; delete it, and make sure "
            "that all processes see the same folder"
        )
    return cached


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    """Wait until no other team writes there. Raises SurdError where the folder cannot be made."""
    from filelock import FileLock

    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / ".lock")
        lock.acquire()
    except OSError as error:
        raise SurdError(
            f"{place}: cannot write here: {error.strerror}; change its permissions, or use "
            "--no-cache"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _write_part(
    storage: Storage, name: str, samples: Sequence[Sample], tensors: dict[str, torch.Tensor]
) -> None:
    half = {key: value.half().contiguous().cpu() for key, value in tensors.items()}
    for key, value in half.items():
        finite = value.isfinite().flatten(1).all(dim=1)  # [n]
        if not finite.all():
            raise ModelError(
                f"sample {samples[int(finite.int().argmin())].id}: what the diffusion model makes "
                f"of it ({key}) holds NaN or exceeds float16; check that the model draws anything, "
                "or rerun with --no-cache, which keeps float32"
            )
    with storage.writing(name) as temporary:
        save_file(half, temporary, {"ids": json.dumps([sample.id for sample in samples])})


def open_cache(place: Path) -> Cached:
    """All parts of a folder."""
    ids: list[str] = []
    tensors, starts = [], []
    for path in sorted(place.glob("part-*.safetensors")):
        with safe_open(path, "pt") as file:
            said = json.loads(file.metadata()["ids"])
        starts.append(len(ids))
        ids += said
        tensors.append(load_file(path))
    return Cached(ids, tensors, np.array(starts, np.int64))


def sample_reader(dataset: Published, split: str) -> Callable[[Sequence[int]], list[Sample]]:
    """A function that reads samples by their rows within the split. Raises WorkspaceError."""
    read = row_reader(dataset, split, _COLUMNS)

    def samples(rows: Sequence[int]) -> list[Sample]:
        return [
            Sample(row["id"], row["image"]["bytes"], row["simple_prompt"], row["complex_prompt"])
            for row in read(rows)
        ]

    return samples


def pictures_at_once(side: int) -> AtOnce:
    """How many pictures of that side an autoencoder is given together."""
    return AtOnce(_PIXELS_AT_ONCE // side**2)


@torch.no_grad()
def encode_samples(
    pipeline: Any,
    samples: Sequence[Sample],
    *,
    resolution: int,
    flip: bool,
    crops: int = 1,
    seed: int = 0,
    at_once: AtOnce,
    chosen: Sequence[int] | None = None,
) -> dict[str, torch.Tensor]:
    """The tensors of a part; see the module's docstring.

    With one `chosen` variant for each sample, ``latents`` are ``[n, 2 c, h, w]``. Raises ModelError
    when the memory does not suffice for one picture.
    """
    every = [views(sample, resolution, flip=flip, crops=crops, seed=seed) for sample in samples]
    if chosen is not None:
        every = [some[[one]] for some, one in zip(every, chosen, strict=True)]
    latents = torch.cat(at_once.each(partial(_latents, pipeline.vae), every, _too_large))
    simple = encode(pipeline, [sample.simple for sample in samples])
    tensors = {
        "latents": latents if chosen is None else latents[:, 0],
        "simple": simple.states,
        "complex": encode(pipeline, [sample.complex for sample in samples]).states,
    }
    if simple.pooled is not None:
        tensors["pooled"] = simple.pooled
    return tensors


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


def views(sample: Sample, side: int, *, flip: bool, crops: int = 1, seed: int = 0) -> torch.Tensor:
    """All variants of a sample's picture, ``[variants, 3, side, side]`` float32 in -1..1.

    One crop is the middle; more lie anywhere along the longer side, where the seed and the
    sample's id put them. With `flip` each is followed by its mirror image. Raises ImageProblem.
    """
    pixels = _resized(sample.image, side)
    room = max(pixels.shape[:2]) - side
    places = [room // 2]
    if crops > 1:
        digest = hashlib.sha256(f"{seed} {sample.id}".encode()).digest()
        drawn = np.random.default_rng(int.from_bytes(digest, "big"))
        places = drawn.integers(0, room, size=crops, endpoint=True).tolist()
    cut = [_square(pixels, place, side) for place in places]
    return torch.stack(
        [one for crop in cut for one in ((crop, crop.flip(-1)) if flip else (crop,))]
    )


def picture(data: bytes, side: int) -> torch.Tensor:
    """Image bytes to ``[3, side, side]`` float32 in -1..1: resized, then the middle is taken."""
    pixels = _resized(data, side)
    return _square(pixels, (max(pixels.shape[:2]) - side) // 2, side)


def _resized(data: bytes, side: int) -> npt.NDArray[np.uint8]:
    """Image bytes to ``[h, w, 3]`` whose shorter side is `side`."""
    pixels = decode(data, min_side_px=side)
    height, width = pixels.shape[:2]
    scale = side / min(height, width)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(pixels, size, interpolation=how), np.uint8)


def _square(pixels: npt.NDArray[np.uint8], place: int, side: int) -> torch.Tensor:
    """``[3, side, side]`` in -1..1, `place` pixels from the beginning of the longer side."""
    height, width = pixels.shape[:2]
    top, left = (place, 0) if height > width else (0, place)
    cut = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    return torch.from_numpy(cut).permute(2, 0, 1).float() / 127.5 - 1
