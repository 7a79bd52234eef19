"""Civitai on loopback: its paths, its paging, and a dozen pictures that are large enough."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from PIL import Image

from surd.demo.picture import Picture
from surd.demo.serve import demo_pictures
from surd.demo.site import Site

SIDE_PX = 512


@contextmanager
def serving_civitai(count: int) -> Iterator[Site]:
    """The site while the block runs; ask it through ``CIVITAI_ENDPOINT``."""
    with Site(large_pictures(count)) as site:
        yield site


def large_pictures(count: int) -> list[Picture]:
    """Of the demo's world, with a woman and a portrait among the circles."""
    pictures = [_large(picture) for picture in demo_pictures(count, seed=0)]
    words = f"portrait of a woman in a red dress, {pictures[0].prompt}"
    return [replace(pictures[0], prompt=words), *pictures[1:]]


def _large(picture: Picture) -> Picture:
    image = Image.open(io.BytesIO(picture.data)).convert("RGB")
    scale = SIDE_PX / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return replace(
        picture, data=buffer.getvalue(), mime="image/jpeg", width=image.width, height=image.height
    )


def opened_pictures(count: int) -> list[Image.Image]:
    """The same, opened."""
    found = large_pictures(count)
    return [Image.open(io.BytesIO(picture.data)).convert("RGB") for picture in found]
