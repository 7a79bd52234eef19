"""The adapter's network.

b batch, s tokens, d width of the diffusion model's text embeddings; t tokens, h width of a language
model.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from surd.errors import ModelError

_READING_LAYERS = 2
"""Of cross-attention to a language model."""
_FARTHEST = 5.0
"""From the mean, in standard deviations: a few dimensions of a language model's states are
hundreds."""


@dataclass(frozen=True)
class LanguageModel:
    """A language model whose states an adapter reads, and how a text is put to it."""

    name: str
    """Hub id, folder, or demo:llm."""
    identity: str
    """As :func:`surd.models.names.identity` gives it."""
    layer: int
    width: int
    """h."""
    max_tokens: int
    """Longer texts are cut."""
    gguf_file: str | None = None
    revision: str | None = None
    """Commit on the hub."""
    template: str = "{prompt}"
    special_tokens: bool = True


@dataclass(frozen=True)
class AdapterConfig:
    """What an adapter is made of. The defaults are the published ones, attention apart."""

    width: int = 768
    """d."""
    network: Literal["sur", "encoder", "reader"] = "sur"
    """``sur`` is the published one; ``encoder`` a pre-norm encoder whose output is o, which learns
    in fewer steps (docs/adapter.md); ``reader`` the same, which first looks at a language model's
    states of the same text."""
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
    language_model: LanguageModel | None = None
    """What a ``reader`` reads."""
    llm_dropout: float = 0.0
    """Of the dimensions of its states."""


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


class Reading(nn.Module):
    """Pre-norm cross-attention from text embeddings to a language model's states."""

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(config.width)
        self.attention = nn.MultiheadAttention(
            config.width, config.heads, config.dropout, batch_first=True, add_zero_attn=True
        )
        self.dropout = nn.Dropout(config.dropout)

    def forward(self, x: torch.Tensor, read: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        """`x` ``[b, s, d]``, `read` ``[b, t, d]``; `hidden` ``[b, t]`` is true where nobody looks.

        A row with nothing to look at reads zeros.
        """
        found, _ = self.attention(
            self.norm(x), read, read, key_padding_mask=hidden, need_weights=False
        )
        changed: torch.Tensor = x + self.dropout(found)
        return changed


def normalised(llm: torch.Tensor) -> torch.Tensor:
    """Each token of a language model's states ``[..., h]`` with mean 0 and variance 1."""
    return functional.layer_norm(llm, llm.shape[-1:])


class Adapter(nn.Module):
    """Section 4.2 and figure 5 of the paper; the ``reader`` is surd's own.

    Of the language model's states each token is normalised, since their size differs much between
    layers, and the first is left out, which causal models attend to when there is nothing to attend
    to (arXiv:2309.17453). Then each dimension is standardised, for a few are so large that they
    would be all there is to see.

    At first o is 0; with the published network it is a small random bias, since the published code
    zeroes the weight of its last layer alone.
    """

    llm_mean: torch.Tensor
    """``[h]``, of the normalised states of what a reader learned from; set before it learns."""
    llm_std: torch.Tensor

    def __init__(self, config: AdapterConfig) -> None:
        super().__init__()
        self.config = config
        self.base: Base | None = None
        """None where nobody noted it."""
        self.language: Any = None
        """Gives the language model's states of texts; opened when it is first needed."""
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
        if config.network == "reader":
            if config.language_model is None:
                raise ModelError("an adapter with network: reader needs the language model's name")
            if config.language_model.layer < 0:
                number = config.language_model.layer
                raise ModelError(f"language_model.layer: {number} is none; they count from 0")
            self.register_buffer("llm_mean", torch.zeros(config.language_model.width))
            self.register_buffer("llm_std", torch.ones(config.language_model.width))
            self.llm_dropout = nn.Dropout(config.llm_dropout)
            self.project = nn.Linear(config.language_model.width, config.width)
            self.reading = nn.ModuleList(Reading(config) for _ in range(_READING_LAYERS))
        self.out = nn.Linear(config.width, config.width)
        nn.init.zeros_(self.out.weight)
        if not sur:
            nn.init.zeros_(self.out.bias)
        self.gate = nn.Linear(config.width, 1) if config.gate else None

    def forward(
        self,
        x: torch.Tensor,
        llm: torch.Tensor | None = None,
        llm_mask: torch.Tensor | None = None,
    ) -> Adapted:
        """`x` are states ``[b, s, d]`` of the frozen text encoder, of the simple prompt.

        A reader also needs those of its language model, `llm` ``[b, t, h]``, of the same texts;
        `llm_mask` ``[b, t]`` is true for tokens and false for padding. Raises ModelError without.
        """
        features = self.encoder(self._read(x, llm, llm_mask))
        output = self.out(self._attended(features, x) if self.config.network == "sur" else features)
        if self.gate is not None:
            output = torch.sigmoid(self.gate(features.mean(1, keepdim=True))) * output  # [b, 1, 1]
        eta = self.config.weight
        kept = x if self.config.blend == "residual" else (1 - eta) * x
        return Adapted(kept + eta * output, features, output)

    def _read(
        self, x: torch.Tensor, llm: torch.Tensor | None, mask: torch.Tensor | None
    ) -> torch.Tensor:
        if self.config.network != "reader":
            return x
        if llm is None or mask is None:
            raise ModelError("this adapter reads a language model: pass its states of the prompts")
        seen = (normalised(llm) - self.llm_mean) / self.llm_std
        read = self.project(self.llm_dropout(seen.clamp(-_FARTHEST, _FARTHEST)))  # [b, t, d]
        hidden = ~mask
        hidden[:, :1] = True
        for reading in self.reading:
            x = reading(x, read, hidden)
        return x

    def _attended(self, features: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        attended = functional.scaled_dot_product_attention(self.query(features), self.key(x), x) + x
        mixed: torch.Tensor = self.mlp(attended) + attended
        return mixed
