"""The adapter's network.

b batch, s tokens, d width of the diffusion model's text embeddings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter is made of. The defaults are the published ones, attention apart."""

    width: int = 768
    """d."""
    network: Literal["sur", "encoder"] = "sur"
    """``sur`` is the published one; ``encoder`` a pre-norm encoder whose output is o, which learns
    in fewer steps (docs/adapter.md)."""
    depth: int = 2
    """Layers of the encoder."""
    heads: int = 8
    feed_forward: int = 2048
    weight: float = 0.1
    """eta, how much of the adapter's output goes into the embeddings."""
    blend: Literal["mix", "residual"] = "mix"
    """``mix``: eta o + (1 - eta) x, as published; ``residual``: x + eta o."""
    attend: Literal["tokens", "batch"] = "tokens"
    """What the encoder attends across. ``batch`` is what the published code does: it leaves
    ``batch_first`` out, so that token i of a prompt looks at token i of the others beside it."""
    dropout: float = 0.1
    gate: bool = False
    """A number from 0 to 1 for each prompt, learned, that o is multiplied with: prompts that the
    model understands already can be left as they are."""


@dataclass(frozen=True)
class Base:
    """The diffusion model that an adapter was trained for."""

    name: str
    identity: str
    """As :func:`surd.models.hub.identity_of` gives it; the name in adapters of older versions."""


class Adapted(NamedTuple):
    """What the adapter gives, ``[b, s, d]`` each."""

    embeddings: torch.Tensor
    """y, what the UNet is given."""
    features: torch.Tensor
    """q, what learns from the language model."""
    output: torch.Tensor
    """o, before it is blended with the input."""


class Adapter(nn.Module):
    """Section 4.2 and figure 5 of the paper.

    At first o is 0; with the published network it is a small random bias, since the published code
    zeroes the weight of its last layer alone.
    """

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.base: Base | None = None
        """None where nobody noted it."""
        sur = config.network == "sur"
        layer = nn.TransformerEncoderLayer(
            config.width,
            config.heads,
            config.feed_forward,
            config.dropout,
            batch_first=config.attend == "tokens",
            norm_first=not sur,
        )
        norm = None if sur else nn.LayerNorm(config.width)
        self.encoder = nn.TransformerEncoder(
            layer, config.depth, norm=norm, enable_nested_tensor=False
        )
        if sur:
            self.query = nn.Linear(config.width, config.width)
            self.key = nn.Linear(config.width, config.width)
            self.mlp = nn.Sequential(
                nn.Linear(config.width, config.width),
                nn.ReLU(),
                nn.Linear(config.width, config.width),
            )
        self.out = nn.Linear(config.width, config.width)
        nn.init.zeros_(self.out.weight)
        if not sur:
            nn.init.zeros_(self.out.bias)
        self.gate = nn.Linear(config.width, 1) if config.gate else None

    def forward(self, x: torch.Tensor) -> Adapted:
        """`x` are states ``[b, s, d]`` of the frozen text encoder, of the simple prompt."""
        features = self.encoder(x)
        output = self.out(self._attended(features, x) if self.config.network == "sur" else features)
        if self.gate is not None:
            output = torch.sigmoid(self.gate(features.mean(1, keepdim=True))) * output  # [b, 1, 1]
        eta = self.config.weight
        kept = x if self.config.blend == "residual" else (1 - eta) * x
        return Adapted(kept + eta * output, features, output)

    def _attended(self, features: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        attended = functional.scaled_dot_product_attention(self.query(features), self.key(x), x) + x
        mixed: torch.Tensor = self.mlp(attended) + attended
        return mixed
