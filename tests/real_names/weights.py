"""Random weights with which a model's parts make a difference, and how files hold them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn


def seeded(model_class: Any, config: Any) -> Any:
    """A model of a configuration; every matrix a little larger than its library begins with."""
    torch.manual_seed(0)
    model = model_class(config).eval()
    stir(model)
    return model


def stir(model: nn.Module, by: float = 0.05) -> None:
    """As they are begun, deep blocks change hardly anything, and biases nothing."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn(parameter.shape, generator=random))


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def as_bin(folder: Path, safe: str = "model.safetensors", bin_: str = "pytorch_model.bin") -> None:
    """Put pickled weights beside the safe ones, as older repositories have them."""
    from safetensors.torch import load_file

    torch.save(load_file(folder / safe), folder / bin_)
