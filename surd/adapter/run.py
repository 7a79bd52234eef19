"""``surd train-adapter``: from a workspace to an adapter in a folder of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from surd import embeddings
from surd.adapter.cache import build_cache
from surd.adapter.card import write_card
from surd.adapter.data import Data, Source
from surd.adapter.files import WEIGHTS_FILE
from surd.adapter.fresh import open_fresh
from surd.adapter.params import TrainAdapterParams
from surd.adapter.training import train
from surd.errors import SurdError
from surd.export.published import Published, open_published
from surd.llm.layout import short_name, stored
from surd.models.devices import device_named
from surd.models.diffusion import load_pipeline
from surd.progress import track
from surd.stage import lasting
from surd.storage import Storage
from surd.workspace import Workspace

SETTINGS_FILE = "settings.json"
_CACHE_BATCH = 64


@dataclass(frozen=True)
class Trained:
    """What a run ended with."""

    folder: Path
    samples: int
    """Of the training split, that have a vector of the language model."""
    steps: int
    new: bool
    """Whether there was anything left to do."""


def run(
    location: str, params: TrainAdapterParams, folder: Path, *, resume: bool, quiet: bool
) -> Trained:
    """Cache what is frozen, then train; what a run of the same settings left is taken up.

    Raises SurdError, also when `folder` holds a run of other settings.
    """
    dataset = open_published(location)
    vectors = _vectors(location, params)
    _claim(folder, params, dataset, resume)
    if (folder / WEIGHTS_FILE).is_file():
        return Trained(folder, len(vectors), params.steps, new=False)
    device = device_named("auto")
    pipeline = load_pipeline(params.diffusion, device=str(device))
    source = _source(dataset, pipeline, params, Path(location) / "adapter" / "cache", quiet)
    data = Data(source, vectors, pipeline, params)
    if not data.rows:
        raise SurdError(
            f"{location}: no sample of the training split has a vector of {params.llm}; run: "
            f"surd embed-llm {location} --model {params.llm}"
        )
    if params.cache:
        _put_away(pipeline)
    with track("train", params.steps, quiet=quiet) as tick:

        def on_step(step: int, terms: Mapping[str, float]) -> None:
            tick({"ok": 1})

        train(data, pipeline, vectors.width, params, folder, on_step)
    write_card(folder, lasting(params), len(data.rows))
    return Trained(folder, len(data.rows), params.steps, new=True)


def _claim(folder: Path, params: TrainAdapterParams, dataset: Published, resume: bool) -> None:
    """Note the settings of a new run; check that they are those of a run that is there."""
    wanted = lasting(params) | {"dataset": [file["sha256"] for file in dataset.files]}
    path = folder / SETTINGS_FILE
    if not resume and folder.is_dir():
        if any(folder.iterdir()) and not path.is_file():
            raise SurdError(f"{folder}: is not a training's folder; choose another --output")
        shutil.rmtree(folder)
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        text = json.dumps(wanted, indent=2) + "\n"
        Storage(str(folder)).write_bytes(SETTINGS_FILE, text.encode())
        return
    except (OSError, ValueError) as error:
        raise SurdError(f"{path}: cannot be read ({error}); choose another --output") from error
    there = lasting(TrainAdapterParams()) | there  # some are younger than the run
    for key, value in json.loads(json.dumps(wanted)).items():
        if there.get(key) != value:
            told = "the dataset" if key == "dataset" else f"{key} ({there.get(key)}, now {value})"
            raise SurdError(
                f"{folder}: holds a run with another value of {told}; choose another --output, or "
                "begin anew with --resume none"
            )


def _vectors(location: str, params: TrainAdapterParams) -> embeddings.Embeddings:
    name = short_name(params.llm)
    there = [layer for model, layer in stored(Workspace(location)) if model in (name, params.llm)]
    layer = max(there, default=0) if params.layer < 0 else params.layer
    return embeddings.load(location, params.llm, layer)


def _source(
    dataset: Published, pipeline: Any, params: TrainAdapterParams, folder: Path, quiet: bool
) -> Source:
    how: dict[str, Any] = {
        "resolution": params.resolution
        or pipeline.unet.config.sample_size * pipeline.vae_scale_factor,
        "flip": params.flip,
        "crops": params.crops,
        "seed": params.seed,
    }
    if not params.cache:
        return open_fresh(dataset, "train", pipeline, **how)
    with track("cache", dataset.splits.get("train", 0), quiet=quiet) as tick:
        return build_cache(
            dataset,
            "train",
            pipeline,
            params.diffusion,
            folder,
            **how,
            batch=_CACHE_BATCH,
            tick=tick,
        )


def _put_away(pipeline: Any) -> None:
    """Make room on a GPU: what the autoencoder and the text encoders said is in the cache."""
    for name in ("vae", "text_encoder", "text_encoder_2"):
        part = getattr(pipeline, name, None)
        if part is not None and part.device.type == "cuda":
            part.to("cpu")
            torch.cuda.empty_cache()
