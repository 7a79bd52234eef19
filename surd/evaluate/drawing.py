"""The pictures an evaluation looks at: drawn once, kept as PNGs, drawn again only when missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from PIL import Image

from surd.adapter.encoding import generate
from surd.adapter.module import Adapter
from surd.progress import Tick
from surd.store.storage import Storage

_GPU_BATCH, _CPU_BATCH_PIXELS = 8, 512 * 512


@dataclass(frozen=True)
class How:
    """How pictures are drawn."""

    diffusion: str
    """Identity of the diffusion model."""
    steps: int
    guidance: float
    negative_prompt: str


class Pictures(Protocol):
    """Drawn pictures, of each text with each seed."""

    def open(self, text: str, seed: int) -> Image.Image:
        """A picture, RGB."""


@dataclass(frozen=True)
class Drawing:
    """The pictures of one side, of each text with each seed."""

    folder: Path

    def name(self, text: str, seed: int) -> str:
        """Where a picture lies, below the folder of all drawings."""
        return f"{self.folder.name}/{_file(text, seed)}"

    def has(self, text: str, seed: int) -> bool:
        """Whether it is drawn."""
        return (self.folder / _file(text, seed)).is_file()

    def open(self, text: str, seed: int) -> Image.Image:
        """A picture, RGB."""
        return open_rgb(self.folder / _file(text, seed))


def open_rgb(path: Path) -> Image.Image:
    """A picture, RGB."""
    with Image.open(path) as image:
        picture: Image.Image = image.convert("RGB")
    return picture


def pictures_at_once(side_px: int, device: torch.device) -> int:
    """How many square pictures of that side are drawn together."""
    on_cpu = max(1, min(64, _CPU_BATCH_PIXELS // side_px**2))
    return on_cpu if device.type == "cpu" else max(_GPU_BATCH, on_cpu)


def draw(
    pipeline: Any,
    adapter: Adapter | None,
    adapter_digest: str,
    texts: Sequence[str],
    seeds: Sequence[int],
    how: How,
    root: Path,
    *,
    batch: int,
    tick: Tick = lambda counts: None,
) -> Drawing:
    """Draw what is not there yet.

    The folder's name is a hash of all that the pictures depend on, so that runs share what they
    have in common: the base model's pictures are drawn once for many adapters. A picture is drawn
    again with those it was drawn with before, for beside others it may differ by a grey level.
    """
    about = json.dumps([asdict(how), adapter_digest if adapter else "base"])
    drawing = Drawing(root / hashlib.sha256(about.encode()).hexdigest()[:16])
    store = Storage(str(drawing.folder))
    pairs = [(text, seed) for seed in seeds for text in dict.fromkeys(texts)]
    for first in range(0, len(pairs), batch):
        some = pairs[first : first + batch]
        if not all(drawing.has(*pair) for pair in some):
            pictures = generate(
                pipeline,
                adapter,
                [text for text, _ in some],
                [seed for _, seed in some],
                negative_prompts=[how.negative_prompt] * len(some),
                num_inference_steps=how.steps,
                guidance_scale=how.guidance,
            )
            for pair, picture in zip(some, pictures, strict=True):
                if not drawing.has(*pair):
                    with store.writing(_file(*pair)) as temporary:
                        picture.save(temporary, "PNG")
        tick({"ok": len(some)})
    return drawing


def _file(text: str, seed: int) -> str:
    return f"{hashlib.sha256(text.encode()).hexdigest()[:16]}-{seed}.png"
