"""Painted pictures to train on, and batches of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image

from surd.demo.painter import paint
from surd.demo.scenes import Pair, Scene, Split, all_pairs, all_scenes, split_of
from tools.demo_models.sizes import PICTURE_PX

PAINTED_PX = (PICTURE_PX, 96, 192)


@dataclass(frozen=True)
class Pictures:
    """Pictures ``[n, h, w, 3]`` uint8 RGB, and the scene each one shows."""

    pixels: npt.NDArray[np.uint8]
    scenes: list[Scene | Pair]
    """Equal ones follow each other."""

    def __len__(self) -> int:
        return len(self.scenes)

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """Where the pictures of each different scene begin, and the end."""
        changes = [i for i in range(len(self)) if i == 0 or self.scenes[i] != self.scenes[i - 1]]
        return np.array([*changes, len(self)])


def paint_split(
    split: Split, each: int, of_pair: int, *, seed: int, cache: Path | None = None
) -> Pictures:
    """``each`` painted pictures of every scene of a split, and `of_pair` of every pair, at the
    size of the models."""
    scenes: list[Scene | Pair] = [
        scene for scene in all_scenes() if split_of(scene) == split for _ in range(each)
    ]
    scenes += [pair for pair in all_pairs(split) for _ in range(of_pair)]
    path = cache / f"{split}-{each}-{of_pair}-{seed}.npy" if cache else None
    if path is not None and path.is_file():
        return Pictures(np.load(path), scenes)
    pixels = np.stack([_small(scene, seed * 10**6 + i) for i, scene in enumerate(scenes)])
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, pixels)
    return Pictures(pixels, scenes)


def _small(scene: Scene | Pair, seed: int) -> npt.NDArray[np.uint8]:
    """A painting at the models' size: painted so, or larger and resized as CLIP's preprocessing."""
    size_px = PAINTED_PX[seed % len(PAINTED_PX)]
    picture = paint(scene, seed=seed, size_px=size_px)
    if size_px == PICTURE_PX:
        return picture
    small = Image.fromarray(picture).resize((PICTURE_PX, PICTURE_PX), Image.Resampling.BICUBIC)
    return np.asarray(small)


def distinct_scenes(pictures: Pictures, count: int, rng: np.random.Generator) -> list[int]:
    """Indices of ``count`` pictures of different scenes, so that no two texts mean the same."""
    sizes = np.diff(pictures.starts)
    kinds = rng.choice(len(sizes), count, replace=False, p=sizes / sizes.sum())
    return [int(pictures.starts[kind] + rng.integers(sizes[kind])) for kind in kinds]


def as_tensor(pixels: npt.NDArray[np.uint8], device: torch.device) -> torch.Tensor:
    """``[b, 3, h, w]`` float32 in -1..1."""
    moved = torch.from_numpy(np.ascontiguousarray(pixels)).to(device)
    return moved.permute(0, 3, 1, 2).float() / 127.5 - 1
