"""Low-rank updates of a pipeline's text encoders (LoRA, Hu et al. 2021, arXiv:2106.09685): what
adapters are compared with.

s tokens, i and o widths in and out of a linear layer, r rank.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from surd.adapter.module import Adapter, Base
from surd.errors import ModelError

_UPDATED = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2")
"""Linear layers of CLIP's transformer blocks, as transformers calls them."""
_DOWN = ".lora_down.weight"


@dataclass(frozen=True)
class LoraConfig:
    """What a LoRA is made of; its alpha equals its rank, so that nothing is scaled."""

    width: int
    """d of the text embeddings."""
    rank: int = 16
    network: Literal["lora"] = "lora"


class LowRank(nn.Module):
    """B A x, which is 0 at first: A is random, B zero."""

    def __init__(self, inputs: int, outputs: int, rank: int) -> None:
        super().__init__()
        self.lora_down = nn.Linear(inputs, rank, bias=False)
        self.lora_up = nn.Linear(rank, outputs, bias=False)
        nn.init.zeros_(self.lora_up.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``[..., i]`` to ``[..., o]``."""
        found: torch.Tensor = self.lora_up(self.lora_down(x))
        return found


class Lora(nn.Module):
    """Updates of a pipeline's text encoders.

    Its weights have the names that kohya-ss/sd-scripts gives them, which other programs read.
    """

    def __init__(self, config: LoraConfig, sizes: Mapping[str, tuple[int, int]]) -> None:
        """`sizes` are i and o of each layer, by its name in :func:`linears_of`."""
        super().__init__()
        self.config = config
        self.base: Base | None = None
        """None where nobody noted it."""
        self._sizes = dict(sizes)
        for name, (inputs, outputs) in sizes.items():
            self.add_module(name, LowRank(inputs, outputs, config.rank))

    def check(self, pipeline: Any) -> dict[str, Any]:
        """The pipeline's layers that are updated, by name.

        Raises ModelError where its text encoders are not those that the updates are made for.
        """
        layers = linears_of(pipeline)
        for name, size in self._sizes.items():
            if name not in layers or _size(layers[name]) != size:
                inputs, outputs = size
                raise ModelError(
                    f"the LoRA updates {name}, {inputs} to {outputs} wide, which the text encoders "
                    "of this diffusion model do not have; use the model it was trained with"
                )
        return layers

    @contextmanager
    def on(self, pipeline: Any) -> Iterator[None]:
        """Within the block the text encoders compute with the updates. Raises as `check` does."""
        layers = self.check(pipeline)
        hooks = [
            layers[name].register_forward_hook(_adding(update))
            for name, update in self.named_children()
        ]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


AnyAdapter = Adapter | Lora


def lora_of(config: LoraConfig, pipeline: Any) -> Lora:
    """One that changes nothing yet. Raises ModelError where no text encoder is CLIP's."""
    sizes = {name: _size(layer) for name, layer in linears_of(pipeline).items()}
    if not sizes:
        raise ModelError("network: lora needs CLIP text encoders, which this diffusion model lacks")
    return Lora(config, sizes)


def sizes_in(weights: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, int]]:
    """i and o of each layer that saved weights update. Raises ValueError where there are none."""
    names = [name.removesuffix(_DOWN) for name in weights if name.endswith(_DOWN)]
    if not names:
        raise ValueError(f"nothing in it is called …{_DOWN}")
    return {
        name: (weights[name + _DOWN].shape[1], weights[f"{name}.lora_up.weight"].shape[0])
        for name in names
    }


def linears_of(pipeline: Any) -> dict[str, Any]:
    """The linear layers of a pipeline's text encoders, as kohya-ss/sd-scripts names them.

    SDXL reads the states before the last block of each encoder, which is left out.
    """
    is_xl = hasattr(pipeline, "text_encoder_2")
    encoders = {"lora_te1" if is_xl else "lora_te": "text_encoder", "lora_te2": "text_encoder_2"}
    found = {}
    for prefix, part in encoders.items():
        encoder = getattr(pipeline, part, None)
        if encoder is None:
            continue
        unread = f"layers.{encoder.config.num_hidden_layers - 1}." if is_xl else None
        for name, layer in encoder.named_modules():
            if name.rpartition(".")[2] in _UPDATED and not (unread and unread in name):
                path = name.removeprefix("text_model.").replace(".", "_")
                found[f"{prefix}_text_model_{path}"] = layer
    return found


def _size(layer: Any) -> tuple[int, int]:
    return layer.in_features, layer.out_features


def _adding(update: nn.Module) -> Callable[[Any, Any, torch.Tensor], torch.Tensor]:
    """A hook; what it adds has the precision and the device of the layer's answer."""

    def add(_: Any, given: tuple[torch.Tensor, ...], answer: torch.Tensor) -> torch.Tensor:
        added: torch.Tensor = update(given[0].to(next(update.parameters())))
        return answer + added.to(answer)

    return add
