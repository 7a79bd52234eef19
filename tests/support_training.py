"""Small trainings of adapters, and what they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from surd.dataset.published import open_published
from surd.llm import embeddings
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.data import Data
from surd.training.latents import Cut, Latents, cached_latents, fresh_latents
from surd.training.loop import Taught
from surd.training.prepare import prepare
from surd.training.samples import samples_of
from surd.training.setup import make_accelerator
from surd.training.texts import Texts, cached_texts, fresh_texts

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


def data_of(
    workspace: Path,
    pipeline: Any,
    folder: Path | None,
    params: TrainAdapterParams,
    **more: Any,
) -> Data:
    """Everything, whether a loss needs it or not; computed as it is asked for without a folder."""
    dataset = open_published(str(workspace))
    vectors = embeddings.load(workspace, "tiny-llm", 3)
    samples = samples_of(str(workspace), dataset, "train", params, among=vectors)
    cut = Cut(16, flip=True, crops=params.crops)
    latents: Latents
    if folder is None:
        texts: Texts = fresh_texts(pipeline)
        latents = fresh_latents(dataset, "train", pipeline.vae, cut)
    else:
        told = list(dict.fromkeys(t for s in samples for t in (*s.captions, s.complex)))
        texts = cached_texts(told, pipeline, "tiny", folder)
        latents = cached_latents(dataset, "train", pipeline.vae, "tiny", cut, folder)
    given = {"latents": latents, "vectors": vectors, **more}
    return Data(given.pop("samples", samples), given.pop("texts", texts), params, **given)


def prepared(
    workspace: Path, pipeline: Any, folder: Path | None, params: TrainAdapterParams, run: Path
) -> tuple[Data, Taught, Any]:
    """As ``surd train-adapter`` does it: data, what teaches, and the accelerator."""
    accelerator = make_accelerator(params, run)
    dataset = open_published(str(workspace))
    vectors = embeddings.load(workspace, "tiny-llm", 3) if params.llm_weight else None
    samples = samples_of(str(workspace), dataset, "train", params, among=vectors)
    made = prepare(
        dataset, samples, pipeline, params, folder, accelerator, vectors=vectors, quiet=True
    )
    return *made, accelerator
