"""Training that starts from the weights of another adapter: ``--from RUN``."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

from torch import nn

from surd.adapter.files import WEIGHTS_FILE, load, load_projection
from surd.adapter.lora import AnyAdapter
from surd.adapter.module import LanguageModel
from surd.errors import SurdError
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.setup import config_of

_SETTINGS = {"weight": "adapter_weight", "rank": "lora_rank"}
"""Names in an adapter's configuration -> in the settings, where those differ."""
_FREE = ("width", "dropout", "llm_dropout")
"""What the settings do not say, and what changes nothing of what an adapter gives."""


@dataclass(frozen=True)
class Start:
    """An adapter to start from."""

    adapter: AnyAdapter
    projection: nn.Linear | None
    """Of the language model's vectors, which the adapter's features were taught to resemble."""
    digest: str
    """Of its file."""


def open_start(
    folder: Path, run: Path, params: TrainAdapterParams, llm: LanguageModel | None = None
) -> Start:
    """Load the adapter in `folder`, for a run in the folder `run`.

    Raises SurdError where that is the same, or the settings ask for another network.
    """
    if folder.resolve() == run.resolve():
        raise SurdError(f"--from {folder}: is the run's own folder; choose another --output")
    adapter = load(folder)
    theirs = asdict(adapter.config)
    for name, wanted in asdict(config_of(params, adapter.config.width, llm)).items():
        if name == "language_model" and wanted and theirs[name] and theirs[name] != wanted:
            raise SurdError(
                f"--from {folder}: its adapter reads {theirs[name]['name']}, layer "
                f"{theirs[name]['layer']}, not {wanted['name']}, layer {wanted['layer']}, or "
                "another version of it; choose that with --llm and --layer"
            )
        if name not in _FREE and theirs[name] != wanted:
            setting = f"train_adapter.{_SETTINGS.get(name, name)}={theirs[name]}"
            raise SurdError(
                f"--from {folder}: its adapter has another {name} ({theirs[name]}, not {wanted}); "
                f"add --set {setting}"
            )
    digest = hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()
    return Start(adapter, load_projection(folder), digest)


def take_over(start: Start, adapter: nn.Module, projection: nn.Linear | None) -> None:
    """Give both the weights to start from; the projection keeps its own for vectors of another
    width."""
    adapter.load_state_dict(start.adapter.state_dict())
    theirs = start.projection
    if theirs and projection and theirs.weight.shape == projection.weight.shape:
        projection.load_state_dict(theirs.state_dict())
