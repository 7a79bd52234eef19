"""Pictures as an autoencoder is given them: resized, cut square, mirrored."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch

from surd.dataset.published import Published, row_reader
from surd.files.images import decode


@dataclass(frozen=True)
class Picture:
    """Of one row of the published dataset."""

    id: str
    image: bytes


def picture_reader(dataset: Published, split: str) -> Callable[[Sequence[int]], list[Picture]]:
    """A function that reads pictures by their rows within the split. Raises WorkspaceError."""
    read = row_reader(dataset, split, ("id", "image"))
    return lambda rows: [Picture(row["id"], row["image"]["bytes"]) for row in read(rows)]


def views(
    picture: Picture, side: int, *, flip: bool, crops: int = 1, seed: int = 0
) -> torch.Tensor:
    """All variants of a picture, ``[variants, 3, side, side]`` float32 in -1..1.

    One crop is the middle; more lie anywhere along the longer side, where the seed and the
    sample's id put them. With `flip` each is followed by its mirror image. Raises ImageProblem.
    """
    pixels = _resized(picture.image, side)
    room = max(pixels.shape[:2]) - side
    places = [room // 2]
    if crops > 1:
        digest = hashlib.sha256(f"{seed} {picture.id}".encode()).digest()
        drawn = np.random.default_rng(int.from_bytes(digest, "big"))
        places = drawn.integers(0, room, size=crops, endpoint=True).tolist()
    cut = [_square(pixels, place, side) for place in places]
    return torch.stack(
        [one for crop in cut for one in ((crop, crop.flip(-1)) if flip else (crop,))]
    )


def middle(data: bytes, side: int) -> torch.Tensor:
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
