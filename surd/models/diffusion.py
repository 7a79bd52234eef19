"""Diffusion models, through diffusers."""

from __future__ import annotations

from typing import Any

import torch

from surd.errors import need_extra
from surd.models.hub import loading
from surd.models.pipeline_check import check_pipeline
from surd.models.quiet import hush


def load_pipeline(name: str, *, device: str = "cpu", dtype: torch.dtype = torch.float32) -> Any:
    """The text-to-image pipeline that `name` means: a hub id, a folder, or ``demo:diffusion``.

    Raises ModelError in one line, also for what surd would draw with or train on wrongly;
    SurdError where diffusers is not installed.
    """
    need_extra("drawing pictures", "train", "diffusers")
    from diffusers import DiffusionPipeline

    with loading("diffusion model", name) as found:
        from diffusers import DiffusionPipeline  # which takes seconds

        hush()
        pipeline = DiffusionPipeline.from_pretrained(found, dtype=dtype)
    check_pipeline(name, pipeline)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)
