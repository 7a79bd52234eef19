"""Small things that many tests need."""

from __future__ import annotations

import hashlib
import io
import uuid
from pathlib import Path

import numpy as np
from PIL import Image

from surd.demo.site import Picture


def jpeg(seed: int) -> bytes:
    """A small JPEG, different for each seed."""
    colours = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(colours).resize((64, 48)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def pictures(count: int, **faults: str) -> list[Picture]:
    """Pictures for a site; ``faults`` maps ``p<number>`` to a fault."""
    return [
        Picture(
            id=number + 1,
            uuid=str(uuid.UUID(int=number + 1)),
            data=jpeg(number),
            prompt=f"masterpiece, (thing number {number}:1.2), <lora:x:0.5>",
            fault=faults.get(f"p{number}"),
        )
        for number in range(count)
    ]


def digests(folder: Path) -> dict[str, str]:
    """Relative path -> sha256 of every part below a workspace."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
    }
