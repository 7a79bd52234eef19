"""``surd generate``: pictures of prompts, with an adapter and, to compare, without."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from surd.adapter.encoding import generate
from surd.adapter.files import load, read_config
from surd.errors import SurdError
from surd.models.devices import device_named, dtype_of
from surd.models.diffusion import load_pipeline
from surd.store.storage import Storage


@dataclass(frozen=True)
class Wish:
    """What to draw, and how."""

    prompts: Sequence[str]
    seeds: Sequence[int]
    """Each prompt is drawn with each of them."""
    negative_prompt: str = ""
    steps: int = 30
    guidance: float = 7.5
    compare: bool = False


def draw(
    run: str | Path, wish: Wish, folder: Path, *, diffusion: str | None = None, device: str = "auto"
) -> list[Path]:
    """Write one PNG for each prompt and seed; to compare, the base model's is to its left.

    The diffusion model is the one the adapter was trained with, unless another is named. Raises
    SurdError.
    """
    if not wish.prompts:
        raise SurdError('say what to draw: surd generate --adapter RUN "two red cups on a table"')
    config = read_config(run)
    name = diffusion or config.get("training", {}).get("diffusion")
    if not name:
        raise SurdError(f"{run}: does not say which diffusion model it is for; give --diffusion")
    place = device_named(device)
    pipeline = load_pipeline(name, device=str(place), dtype=dtype_of("auto", place))
    adapter = load(run, device=place)
    how = {"num_inference_steps": wish.steps, "guidance_scale": wish.guidance}
    storage = Storage(str(folder))
    written = []
    for prompt in wish.prompts:
        for seed in wish.seeds:
            negative = [wish.negative_prompt]
            sides = (None, adapter) if wish.compare else (adapter,)
            pictures = [
                generate(pipeline, side, [prompt], [seed], negative_prompts=negative, **how)[0]
                for side in sides
            ]
            path = folder / f"{_stem(prompt)}-{seed}.png"
            with storage.writing(path.name) as temporary:
                side_by_side(pictures).save(temporary, "PNG")
            written.append(path)
    return written


def side_by_side(pictures: Sequence[Any]) -> Image.Image:
    """The pictures in a row."""
    if len(pictures) == 1:
        only: Image.Image = pictures[0]
        return only
    width = sum(picture.width for picture in pictures)
    sheet = Image.new("RGB", (width, max(picture.height for picture in pictures)), "white")
    left = 0
    for picture in pictures:
        sheet.paste(picture, (left, 0))
        left += picture.width
    return sheet


def _stem(prompt: str) -> str:
    words = re.sub(r"[^\w]+", "-", prompt.lower()).strip("-")
    return words[:60] or "prompt"
