"""The aspect buckets into which trainers sort pictures: sizes of about one area, in steps.

https://github.com/kohya-ss/sd-scripts/blob/main/docs/config_README-en.md (bucket_reso_steps)
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from surd.pages.text import number

SIDES = (512, 1024)
"""Resolutions in pixels that people train Stable Diffusion 1 and XL at."""
STEP_PX = 64

Sizes = npt.NDArray[np.int64]


def sizes(side_px: int) -> Sizes:
    """Widths and heights ``[n, 2]``, the tallest first: of each width from half to twice the
    resolution the largest height whose area is no larger than the square's, and all of them
    lying."""
    widths = np.arange(side_px // 2, 2 * side_px + 1, STEP_PX)
    standing = np.stack([widths, side_px**2 // widths // STEP_PX * STEP_PX], axis=1)
    found = np.unique(np.concatenate([standing, standing[:, ::-1]]), axis=0)
    return found[np.argsort(found[:, 0] / found[:, 1])].astype(np.int64)


class Buckets:
    """Counts pictures by the bucket whose aspect ratio is nearest to theirs."""

    def __init__(self, side_px: int) -> None:
        self.side_px = side_px
        self.sizes = sizes(side_px)
        self.counts = np.zeros(len(self.sizes), np.int64)
        self.enlarged = 0
        """Pictures that do not cover their bucket."""
        aspects = np.log(self.sizes[:, 0] / self.sizes[:, 1])
        self._edges = (aspects[:-1] + aspects[1:]) / 2

    def add(self, width: Sizes, height: Sizes) -> None:
        """Pictures of more than zero pixels, ``[n]`` each."""
        found = np.searchsorted(self._edges, np.log(width / np.maximum(height, 1)))
        self.counts += np.bincount(found, minlength=len(self.counts))
        smaller = (width < self.sizes[found, 0]) | (height < self.sizes[found, 1])
        self.enlarged += int(smaller.sum())

    def ranked(self) -> list[tuple[str, int]]:
        """The buckets that have pictures, the fullest first."""
        rows = [
            (f"{w:,} × {h:,}", int(count))
            for (w, h), count in zip(self.sizes.tolist(), self.counts, strict=True)
            if count
        ]
        return sorted(rows, key=lambda row: -row[1])

    def title(self) -> str:
        """Says how many are enlarged, too."""
        told = f"; {number(self.enlarged)} smaller, and so enlarged" if self.enlarged else ""
        return f"buckets of trainers at {self.side_px:,} px, in steps of {STEP_PX}{told}"
