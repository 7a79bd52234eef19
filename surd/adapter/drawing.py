"""Pictures drawn into a folder: those that are there already are not drawn again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from surd.adapter.encoding import generate
from surd.adapter.lora import AnyAdapter
from surd.errors import SurdError
from surd.files.images import ImageProblem, decode, read_header
from surd.progress import Tick
from surd.store.storage import Storage
from surd.untrusted import read_regular

_GPU_BATCH, _CPU_BATCH_PIXELS = 8, 512 * 512
_MAX_PIXELS = 100_000_000


def draw_missing(
    pipeline: Any,
    adapter: AnyAdapter | None,
    pairs: Sequence[tuple[str, int]],
    folder: Path,
    name: Callable[[str, int], str],
    *,
    batch: int,
    negative_prompt: str = "",
    tick: Tick = lambda counts: None,
    **call: Any,
) -> None:
    """Draw each text with its seed, `batch` at a time, into the file that `name` says; `call`
    goes to the pipeline.

    A picture is drawn again with those it was drawn with before, for beside others it may differ
    by a grey level. Raises ModelError where the memory does not suffice.
    """
    storage = Storage(str(folder))
    for first in range(0, len(pairs), batch):
        some = pairs[first : first + batch]
        missing = [not storage.exists(name(*pair)) for pair in some]
        if any(missing):
            texts, seeds = zip(*some, strict=True)
            negative = [negative_prompt] * len(some)
            pictures = generate(pipeline, adapter, texts, seeds, negative_prompts=negative, **call)
            for pair, picture, wanted in zip(some, pictures, missing, strict=True):
                if wanted:
                    with storage.writing(name(*pair)) as temporary:
                        picture.save(temporary, "PNG")
        tick({"ok": len(some)})


def drawn_at_once(side_px: int, device: torch.device) -> int:
    """How many square pictures of that side are drawn together."""
    on_cpu = max(1, min(64, _CPU_BATCH_PIXELS // side_px**2))
    return on_cpu if device.type == "cpu" else max(_GPU_BATCH, on_cpu)


def open_rgb(path: Path) -> Image.Image:
    """A picture, RGB. Raises SurdError where it cannot be read."""
    try:
        return read_rgb(read_regular(path), path)
    except OSError as error:
        raise _unreadable(path) from error


def read_rgb(data: bytes, name: object) -> Image.Image:
    """A picture's file, RGB. Raises SurdError, with the `name`, where it is none."""
    try:
        read_header(data, max_pixels=_MAX_PIXELS)
        return Image.fromarray(decode(data))
    except ImageProblem as problem:
        raise _unreadable(name) from problem


def _unreadable(name: object) -> SurdError:
    return SurdError(
        f"{name}: cannot be read; delete it and rerun the same command, which draws it again"
    )
