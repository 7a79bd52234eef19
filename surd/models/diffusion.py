"""Diffusion models, through diffusers."""

from __future__ import annotations

from typing import Any

import torch

from surd.errors import ModelError, need_extra
from surd.models.names import resolve
from surd.models.quiet import hush


def load_pipeline(name: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """The text-to-image pipeline that `name` means: a hub id, a folder, or ``demo:diffusion``.

    Raises ModelError in one line; SurdError where diffusers is not installed.
    """
    need_extra("drawing pictures", "train", "diffusers")
    from diffusers import DiffusionPipeline

    found = resolve(name)
    hush()
    try:
        pipeline = DiffusionPipeline.from_pretrained(found, dtype=dtype)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise ModelError(f"diffusion model {name!r} cannot be loaded: {reason}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)
