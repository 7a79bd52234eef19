"""Photographs of noise that a web server gives away, and tables of their urls."""

from __future__ import annotations

import hashlib
import json
import os
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from _common import say


@dataclass(frozen=True)
class Kind:
    """A kind of picture to make."""

    name: str
    width: int
    height: int
    vary: float
    """Sides are up to this share shorter or longer."""


PHOTOS = Kind("photos", 1024, 768, 0.06)
THUMBS = Kind("thumbs", 256, 256, 0.0)


@dataclass(frozen=True)
class Corpus:
    """Pictures in a folder that nginx serves."""

    folder: Path
    names: list[str]
    widths: list[int]
    heights: list[int]
    sha256: list[str]

    def __len__(self) -> int:
        return len(self.names)


def photo(kind: Kind, seed: int) -> tuple[int, int, bytes]:
    """Width, height and JPEG of noise at every scale, fading towards the fine ones as in photos."""
    rng = np.random.default_rng([seed, kind.width])
    stretch = 1 + rng.uniform(-kind.vary, kind.vary, 2)
    width, height = round(kind.width * stretch[0]), round(kind.height * stretch[1])
    fade = rng.uniform(0.675, 0.735)
    amplitude = 70.0
    pixels: np.ndarray = np.zeros((3, 4, 3), np.float32)
    while True:
        rows, columns = pixels.shape[:2]
        pixels += amplitude * rng.standard_normal((rows, columns, 1), dtype=np.float32)
        if columns <= 256:  # colours change more slowly than brightness
            pixels += 0.4 * amplitude * rng.standard_normal(pixels.shape, dtype=np.float32)
        if (columns, rows) == (width, height):
            break
        pixels = cv2.resize(pixels, (min(width, 2 * columns), min(height, 2 * rows)))
        amplitude *= fade
    image = np.clip(pixels + rng.uniform(100, 150), 0, 255).astype(np.uint8)
    return width, height, cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def make_corpus(kind: Kind, count: int, root: Path) -> Corpus:
    """Make ``count`` different pictures, once; all later runs find them."""
    folder = root / f"{kind.name}-{count}"
    index = folder / "index.json"
    if not index.exists():
        say(f"making {count:,} {kind.name} in {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        numbers = np.array_split(np.arange(count), os.cpu_count() or 1)
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            made = list(pool.map(partial(_save_photos, kind, folder), numbers))
        index.write_text(json.dumps([row for rows in made for row in rows]))
    names, widths, heights, digests, sizes = zip(*json.loads(index.read_text()), strict=True)
    say(f"{count:,} {kind.name}, {statistics.mean(sizes) / 1000:.0f} kB each on average")
    return Corpus(folder, list(names), list(widths), list(heights), list(digests))


def _save_photos(kind: Kind, folder: Path, numbers: Sequence[int]) -> list[list[Any]]:
    cv2.setNumThreads(1)
    rows: list[list[Any]] = []
    for number in numbers:
        width, height, data = photo(kind, int(number))
        name = f"{number:06}.jpg"
        (folder / name).write_bytes(data)
        rows.append([name, width, height, hashlib.sha256(data).hexdigest(), len(data)])
    return rows


def write_table(path: Path, base_url: str, corpus: Corpus, rows: int) -> Path:
    """A Parquet table of different urls with prompts; pictures repeat when it is longer."""
    urls = [
        f"{base_url}/{corpus.folder.name}/{corpus.names[i % len(corpus)]}?n={i}"
        for i in range(rows)
    ]
    prompts = [f"a photograph of noise, number {i}, soft light" for i in range(rows)]
    pq.write_table(pa.table({"url": urls, "prompt": prompts}), path)
    return path
