"""A folder of generated images, as people have it."""

from __future__ import annotations

import io
from pathlib import Path

from PIL import Image, PngImagePlugin

from surd.demo.world import Entry, world


def opened(entry: Entry) -> Image.Image:
    return Image.open(io.BytesIO(entry.picture)).convert("RGB")


def make_outputs(folder: Path, count: int) -> None:
    """Pictures of the demo world, as AUTOMATIC1111 saves them."""
    folder.mkdir()
    for number, entry in enumerate(world(count, seed=0)):
        info = PngImagePlugin.PngInfo()
        said = (
            f"{entry.prompt}\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, Seed: {number}"
        )
        info.add_text("parameters", said)
        opened(entry).save(folder / f"{number:05}-{number}.png", pnginfo=info)
