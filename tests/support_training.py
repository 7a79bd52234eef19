"""Small trainings of adapters, and what they leave."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from surd.dataset.published import open_published
from surd.llm import embeddings
from surd.llm.embeddings import TextVectors
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.data import Data
from surd.training.latents import Cut, Latents, cached_latents, fresh_latents
from surd.training.loop import Taught
from surd.training.prepare import prepare
from surd.training.samples import Sample, samples_of, with_vectors
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


def read_samples(
    workspace: Path, params: TrainAdapterParams, llm: str = "tiny-llm", layer: int = 3
) -> tuple[list[Sample], TextVectors | None]:
    """Those of the training split, and the vectors of their texts if a loss needs them."""
    samples = samples_of(str(workspace), open_published(str(workspace)), "train", params)
    if not params.llm_weight and params.network != "reader":
        return samples, None
    vectors = embeddings.load_texts(workspace, llm, layer)
    return with_vectors(samples, vectors, params), vectors


def data_of(
    workspace: Path,
    pipeline: Any,
    folder: Path | None,
    params: TrainAdapterParams,
    **more: Any,
) -> Data:
    """Everything, whether a loss needs it or not; computed as it is asked for without a folder."""
    dataset = open_published(str(workspace))
    given = dict(more)
    if "samples" not in given or "vectors" not in given:
        samples, vectors = read_samples(workspace, params)
        given = {"samples": samples, "vectors": vectors, **more}
    samples = given.pop("samples")
    cut = Cut(16, flip=True, crops=params.crops)
    latents: Latents
    if folder is None:
        texts: Texts = fresh_texts(pipeline)
        latents = fresh_latents(dataset, "train", pipeline.vae, cut)
    else:
        told = list(dict.fromkeys(t for s in samples for t in (*s.captions, s.complex)))
        texts = cached_texts(told, pipeline, "tiny", folder)
        latents = cached_latents(dataset, "train", pipeline.vae, "tiny", cut, folder)
    return Data(samples, given.pop("texts", texts), params, **{"latents": latents, **given})


def prepared(
    workspace: Path,
    pipeline: Any,
    folder: Path | None,
    params: TrainAdapterParams,
    run: Path,
    **of_vectors: Any,
) -> tuple[Data, Taught, Any]:
    """As ``surd train-adapter`` does it: data, what teaches, and the accelerator."""
    accelerator = make_accelerator(params, run)
    samples, vectors = read_samples(workspace, params, **of_vectors)
    dataset = open_published(str(workspace))
    made = prepare(
        dataset, samples, pipeline, params, folder, accelerator, vectors=vectors, quiet=True
    )
    return *made, accelerator
