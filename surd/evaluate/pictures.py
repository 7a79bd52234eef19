"""The pictures an evaluation looks at: drawn once, kept as PNGs, drawn again only when missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from surd.adapter.drawing import draw_missing, open_rgb
from surd.adapter.lora import AnyAdapter
from surd.progress import Tick

_VERSION = 2
"""Raised when the same model, adapter, text and seed give another picture than before."""


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

    def name(self, text: str, seed: int) -> str:
        """Where a picture lies, below the folder of all drawings."""

    def open(self, text: str, seed: int) -> Image.Image:
        """A picture, RGB."""


def find_picture(name: str, run: Path) -> Path | None:
    """A judged picture of the run or, in an ablation, beside it; None where it is gone."""
    for place in (run / "pictures", run.parent / "pictures"):
        path = place / name
        with suppress(OSError, ValueError):  # the name is read from a file, and may be none
            if path.resolve().is_relative_to(place.resolve()) and path.is_file():
                return path
    return None


@dataclass(frozen=True)
class Drawing:
    """The pictures of one side, of each text with each seed."""

    folder: Path

    def name(self, text: str, seed: int) -> str:
        """Where a picture lies, below the folder of all drawings."""
        return f"{self.folder.name}/{_file(text, seed)}"

    def open(self, text: str, seed: int) -> Image.Image:
        """A picture, RGB."""
        return open_rgb(self.folder / _file(text, seed))


@dataclass(frozen=True)
class Instead:
    """Pictures of other prompts, asked for by those they stand for."""

    drawing: Drawing
    prompts: Mapping[str, str]

    def name(self, text: str, seed: int) -> str:
        """Where a picture lies, below the folder of all drawings."""
        return self.drawing.name(self.prompts[text], seed)

    def open(self, text: str, seed: int) -> Image.Image:
        """A picture, RGB."""
        return self.drawing.open(self.prompts[text], seed)


def draw(
    pipeline: Any,
    adapter: AnyAdapter | None,
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
    have in common: the base model's pictures are drawn once for many adapters.
    """
    about = json.dumps([_VERSION, asdict(how), adapter_digest if adapter else "base"])
    drawing = Drawing(root / hashlib.sha256(about.encode()).hexdigest()[:16])
    pairs = [(text, seed) for seed in seeds for text in dict.fromkeys(texts)]
    draw_missing(
        pipeline,
        adapter,
        pairs,
        drawing.folder,
        _file,
        batch=batch,
        tick=tick,
        negative_prompt=how.negative_prompt,
        num_inference_steps=how.steps,
        guidance_scale=how.guidance,
    )
    return drawing


def _file(text: str, seed: int) -> str:
    return f"{hashlib.sha256(text.encode()).hexdigest()[:16]}-{seed}.png"
