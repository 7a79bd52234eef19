"""What the frozen parts of a diffusion model say of a dataset, computed once, in parts.

Each part is a safetensors file of ``latents`` ``[n, variants, 2 c, h, w]`` (means, then standard
deviations of the autoencoder's Gaussian), ``simple`` and ``complex`` ``[n, s, d]``, and for SDXL
``pooled`` ``[n, p]``; all float16.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from surd.adapter.encoding import encode
from surd.export.published import Published, batches
from surd.images import decode
from surd.models.names import identity
from surd.progress import Tick
from surd.storage import Storage

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

    def take(self, rows: Sequence[int]) -> dict[str, torch.Tensor]:
        """The tensors of some rows, stacked, float32."""
        places = np.searchsorted(self.starts, rows, side="right") - 1
        picked = [
            {name: tensor[row - self.starts[part]] for name, tensor in self.tensors[part].items()}
            for row, part in zip(rows, places, strict=True)
        ]
        return {name: torch.stack([one[name] for one in picked]).float() for name in picked[0]}


def build_cache(
    dataset: Published,
    split: str,
    pipeline: Any,
    diffusion: str,
    folder: Path,
    *,
    resolution: int,
    flip: bool,
    batch: int,
    tick: Tick = lambda counts: None,
) -> Cached:
    """Encode what is not there yet, and open all of it.

    The folder's name holds a hash of everything the content depends on, so other settings have
    another folder.
    """
    about = [identity(diffusion), resolution, flip, split]
    about += [file["sha256"] for file in dataset.files if file["split"] == split]
    key = hashlib.sha256(json.dumps(about).encode()).hexdigest()[:16]
    place = folder / key
    storage = Storage(str(place))
    for number, samples in enumerate(_parts(dataset, split, batch)):
        name = f"part-{number:05d}.safetensors"
        if not storage.exists(name):
            tensors = encode_samples(pipeline, samples, resolution=resolution, flip=flip)
            half = {key: value.half().contiguous().cpu() for key, value in tensors.items()}
            with storage.writing(name) as temporary:
                save_file(half, temporary, {"ids": json.dumps([sample.id for sample in samples])})
        tick({"ok": len(samples)})
    return open_cache(place)


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


def _parts(dataset: Published, split: str, size: int) -> Iterator[list[Sample]]:
    waiting: list[Sample] = []
    for table in batches(dataset, split, _COLUMNS):
        for row in table.to_pylist():
            image = row["image"]["bytes"]
            waiting.append(Sample(row["id"], image, row["simple_prompt"], row["complex_prompt"]))
            if len(waiting) == size:
                yield waiting
                waiting = []
    if waiting:
        yield waiting


@torch.no_grad()
def encode_samples(
    pipeline: Any, samples: Sequence[Sample], *, resolution: int, flip: bool
) -> dict[str, torch.Tensor]:
    """The tensors of a part; see the module's docstring."""
    pixels = torch.stack([picture(sample.image, resolution) for sample in samples])
    variants = [pixels, pixels.flip(-1)] if flip else [pixels]
    latents = []
    for some in variants:
        moved = some.to(pipeline.vae.device, pipeline.vae.dtype)
        gaussian = pipeline.vae.encode(moved).latent_dist
        latents.append(torch.cat([gaussian.mean, gaussian.std], dim=1).float())
    simple = encode(pipeline, [sample.simple for sample in samples])
    tensors = {
        "latents": torch.stack(latents, dim=1),
        "simple": simple.states,
        "complex": encode(pipeline, [sample.complex for sample in samples]).states,
    }
    if simple.pooled is not None:
        tensors["pooled"] = simple.pooled
    return tensors


def picture(data: bytes, side: int) -> torch.Tensor:
    """Image bytes to ``[3, side, side]`` float32 in -1..1: resized, then the middle is taken."""
    pixels = decode(data, min_side_px=side)
    height, width = pixels.shape[:2]
    scale = side / min(height, width)
    size = (max(side, round(width * scale)), max(side, round(height * scale)))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(pixels, size, interpolation=how)
    top, left = (resized.shape[0] - side) // 2, (resized.shape[1] - side) // 2
    middle = np.ascontiguousarray(resized[top : top + side, left : left + side])
    return torch.from_numpy(middle).permute(2, 0, 1).float() / 127.5 - 1
