"""Training that stops when the loss on unseen samples no longer falls, and keeps the best adapter.

All it knows is in the run's log, so that a resumed run stops where it would have stopped.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file

from surd.adapter.files import PROJECTION, WEIGHTS_FILE
from surd.training.logs import LOG_FILE, LOSS, finite, read_log

BEST = "best"
"""Folder of the best adapter, in the run's."""


class Stopping:
    """Whether to go on; without a `patience` there is always more to do."""

    def __init__(self, folder: Path, patience: int | None) -> None:
        self._patience = patience
        self._losses = finite(read_log(folder / LOG_FILE), LOSS) if patience is not None else []

    def note(self, step: int, loss: float | None) -> bool:
        """Take down a validation, if there was one; whether it is the best so far."""
        if self._patience is None or loss is None:
            return False
        best = min((value for _, value in self._losses), default=float("inf"))
        self._losses.append((step, loss))
        return loss < best

    def is_over(self) -> bool:
        """Whether none of the last validations was better than one before them."""
        if self._patience is None or len(self._losses) <= self._patience:
            return False
        values = [value for _, value in self._losses]
        return min(values[: -self._patience]) <= min(values[-self._patience :])


def best_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Of the student whose adapter is the best in a run's folder."""
    weights = load_file(folder / BEST / WEIGHTS_FILE)
    return {
        f"projection.{name.removeprefix(PROJECTION)}"
        if name.startswith(PROJECTION)
        else f"adapter.{name}": value
        for name, value in weights.items()
    }
