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
    pictures = [_large(picture) for picture in demo_pictures(count, seed=0)]
    pictures[0] = replace(pictures[0], prompt=f"a woman in a red dress, {pictures[0].prompt}")
    with Site(pictures) as site:
        yield site


def _large(picture: Picture) -> Picture:
    image = Image.open(io.BytesIO(picture.data)).convert("RGB")
    scale = SIDE_PX / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return replace(
        picture, data=buffer.getvalue(), mime="image/jpeg", width=image.width, height=image.height
    )
