"""Which precision a model is computed in, on which device."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from surd.models.devices import device_named, dtype_of
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.setup import precision_of

GPU = torch.device("cuda")


def pretend(monkeypatch: pytest.MonkeyPatch, *, ampere: bool) -> None:
    """A GPU in this process. Older ones compute bf16 too, but many times slower, in emulation."""
    import surd.training.setup

    def supported(including_emulation: bool = True) -> bool:
        return ampere or including_emulation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(surd.training.setup, "device_named", lambda name: GPU)


def precisions() -> dict[str, Any]:
    """By command, as it asks."""
    return {
        "stages": dtype_of("auto", GPU),
        "train-adapter": precision_of(TrainAdapterParams()),
    }


def test_auto_is_what_the_gpu_computes_in_for_every_command(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pretend(monkeypatch, ampere=True)
    assert precisions() == {"stages": torch.bfloat16, "train-adapter": "bf16"}
    pretend(monkeypatch, ampere=False)
    assert precisions() == {"stages": torch.float16, "train-adapter": "fp16"}


def test_auto_is_float32_without_a_gpu_and_what_is_asked_for_stands() -> None:
    assert dtype_of("auto", torch.device("cpu")) == torch.float32
    assert dtype_of("fp16", torch.device("cpu")) == torch.float16
    assert dtype_of("fp32", GPU) == torch.float32
    if device_named("auto").type == "cpu":
        assert precision_of(TrainAdapterParams()) == "no"
    assert precision_of(TrainAdapterParams(precision="bf16")) == "bf16"
