"""Painted pictures to train on, and batches of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from surd.demo.painter import paint
from surd.demo.scenes import Scene, Split, all_scenes, split_of
from tools.demo_models.sizes import PICTURE_PX

PAINTED_PX = (PICTURE_PX, 96, 192)


@dataclass(frozen=True)
class Pictures:
    """Pictures ``[n, h, w, 3]`` uint8 RGB, and the scene each one shows."""

    pixels: npt.NDArray[np.uint8]
    scenes: list[Scene]
    each: int
    """Pictures of one scene; they follow each other."""

    def __len__(self) -> int:
        return len(self.scenes)


def paint_split(split: Split, each: int, *, seed: int, cache: Path | None = None) -> Pictures:
    """``each`` painted pictures of every scene of a split, at the size of the models."""
    scenes = [scene for scene in all_scenes() if split_of(scene) == split for _ in range(each)]
    path = cache / f"{split}-{each}-{seed}.npy" if cache else None
    if path is not None and path.is_file():
        return Pictures(np.load(path), scenes, each)
    pixels = np.stack([_small(scene, seed * 10**6 + i) for i, scene in enumerate(scenes)])
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, pixels)
    return Pictures(pixels, scenes, each)


def _small(scene: Scene, seed: int) -> npt.NDArray[np.uint8]:
    """A painting at the models' size: painted so, or larger and resized as CLIP's preprocessing."""
    size_px = PAINTED_PX[seed % len(PAINTED_PX)]
    picture = paint(scene, seed=seed, size_px=size_px)
    if size_px == PICTURE_PX:
        return picture
    small = Image.fromarray(picture).resize((PICTURE_PX, PICTURE_PX), Image.Resampling.BICUBIC)
    return np.asarray(small)


def distinct_scenes(pictures: Pictures, count: int, rng: np.random.Generator) -> list[int]:
    """Indices of ``count`` pictures of different scenes, so that no two texts mean the same."""
    kinds = rng.choice(len(pictures) // pictures.each, count, replace=False)
    return [int(kind * pictures.each + rng.integers(pictures.each)) for kind in kinds]


def as_tensor(pixels: npt.NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """``[b, 3, h, w]`` float32 in -1..1."""
    moved = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
    return moved.permute(0, 3, 1, 2).float() / 127.5 - 1
