"""Small things that many tests need."""

from __future__ import annotations

import hashlib
import io
import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from surd.demo.picture import Picture
from surd.store.workspace import Workspace


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


def real_prompts() -> list[str | None]:
    """Prompts of one real answer of Civitai; skips the test where it is not at hand."""
    path = Path(__file__).parents[2] / "shared" / "real" / "civitai_models_page2.json"
    if not path.is_file():
        pytest.skip("the real prompts are not part of the repository")
    images = [
        image
        for model in json.loads(path.read_text(encoding="utf-8"))["items"]
        for version in model["modelVersions"]
        for image in version["images"]
    ]
    return [(image.get("meta") or {}).get("prompt") for image in images]


def rows_of(folder: Path, group: str) -> list[dict[str, Any]]:
    """All rows of a group of a workspace."""
    workspace = Workspace(folder)
    parts = (workspace.read(group, part) for part in workspace.parts(group))
    return [row for part in parts for row in part.to_pylist()]
