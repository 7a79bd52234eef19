"""Small trainings of adapters, and what they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from surd.dataset.published import open_published
from surd.llm import embeddings
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.cache import build_cache
from surd.training.data import Data

SMALL = {"heads": 4, "feed_forward": 32, "report_to": "none", "batch_size": 3, "accumulate": 2}
"""Settings of a training that takes a moment."""

LOOK = {
    "validation_prompts": '["a red cup", "two cups, blue"]',
    "validation_steps": 2,
    "validate_every": 2,
    "validation_seeds": 2,
    "accumulate": 1,
    "checkpoint_every": 2,
}
"""Settings of a training that draws two prompts now and then."""


def command(workspace: Path, diffusion: str, run: Path, steps: int, **more: Any) -> list[str]:
    settings = {**SMALL, "learning_rate": 1e-3, **more}
    sets = [a for k, v in settings.items() for a in ("--set", f"train_adapter.{k}={v}")]
    told = ["--diffusion", diffusion, "--llm", "tiny-llm", "--steps", str(steps)]
    return ["train-adapter", str(workspace), *told, "-o", str(run), *sets]


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "adapter_model.safetensors")


def same(one: Path, other: Path) -> bool:
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[k], right[k]) for k in left)


def data_of(workspace: Path, pipeline: Any, folder: Path, params: TrainAdapterParams) -> Data:
    dataset = open_published(str(workspace))
    cached = build_cache(
        dataset, "train", pipeline, "tiny", folder, resolution=16, flip=True, batch=8
    )
    return Data(cached, embeddings.load(workspace, "tiny-llm", 3), pipeline, params)
