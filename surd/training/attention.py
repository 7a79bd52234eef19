"""What a UNet reads from text embeddings, without running it: its cross-attention layers alone.

Text reaches the UNet through these layers and nowhere else. Where each gives the same answers to a
sentence as to the complex prompt, the whole UNet does. So it is run a few times at the beginning,
to note what its layers are asked, and never again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch

_ASKED_AT_ONCE = 32
_FLAT = 1e-4
"""Added below the root, whose slope has no end at zero."""
_LAYER = "attn2"
"""What diffusers calls the attention to the text in a transformer block."""


@dataclass(frozen=True)
class Asked:
    """What a UNet asked one of its cross-attention layers."""

    queries: torch.Tensor
    """``[n, c]``, hidden states of the UNet."""
    variance: float
    """Of the layer's answers, which are compared in this unit."""


@dataclass(frozen=True)
class Probe:
    """A cross-attention layer, with what it is asked."""

    layer: Any
    asked: Asked


def layers_of(unet: Any) -> dict[str, Any]:
    """The cross-attention layers, by name."""
    return {name: one for name, one in unet.named_modules() if name.endswith(f".{_LAYER}")}


@torch.no_grad()
def ask(
    unet: Any,
    runs: Iterable[tuple[dict[str, Any], torch.Tensor]],
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> dict[str, Asked]:
    """Run the UNet, and note for each layer, by its name, what it was asked and answered.

    `runs` are arguments to call the UNet with, and the indices ``[n of this run]`` of the positions
    (batch x places, wrapped around) that are noted. The UNet alone runs under `autocast`, as it
    does in training.
    """
    layers = layers_of(unet)
    queries: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    answers: dict[str, list[torch.Tensor]] = {name: [] for name in layers}
    now: list[torch.Tensor] = []

    def noting(name: str) -> Callable[..., None]:
        def note(layer: Any, args: Any, kwargs: Any, answer: torch.Tensor) -> None:
            states = args[0] if args else kwargs["hidden_states"]  # [b, q, c]
            places = now[0] % (states.shape[0] * states.shape[1])
            queries[name].append(states.flatten(0, 1)[places].clone())
            answers[name].append(answer.flatten(0, 1)[places].float())

        return note

    hooks = [
        layer.register_forward_hook(noting(name), with_kwargs=True)
        for name, layer in layers.items()
    ]
    try:
        for arguments, places in runs:
            now[:] = [places]
            with autocast():
                unet(**arguments)
    finally:
        for hook in hooks:
            hook.remove()
    return {
        name: Asked(torch.cat(queries[name]), float(torch.cat(answers[name]).var()))
        for name in layers
    }


def attention_error(
    probes: Sequence[Probe],
    found: torch.Tensor,
    aim: torch.Tensor,
    aim_mask: torch.Tensor | None = None,
    *,
    root: bool = False,
) -> torch.Tensor:
    """How differently the layers answer to text embeddings `found` ``[b, s, d]`` and `aim`
    ``[b, k s, d]``, of which `aim_mask` ``[b, k s]`` is false for what is not there.

    The mean over layers of the squared difference over the variance, and of the rows, or of the
    rows' roots; every row is asked a few of the queries, drawn by torch's generator of the CPU.
    """
    errors = []  # [b] each
    for probe in probes:
        asked = probe.asked
        rows = torch.randint(len(asked.queries), (len(found), _ASKED_AT_ONCE))
        queries = asked.queries[rows.to(asked.queries.device)]  # [b, q, c]
        with torch.no_grad():
            hidden = None if aim_mask is None else _bias(aim_mask, queries.dtype)
            states = aim.to(queries.dtype)
            wanted = probe.layer(queries, encoder_hidden_states=states, attention_mask=hidden)
        said = probe.layer(queries, encoder_hidden_states=found.to(queries.dtype))
        errors.append((said.float() - wanted.float()).square().mean((1, 2)) / asked.variance)
    rows_errors = torch.stack(errors).mean(0)  # [b]
    return ((rows_errors + _FLAT).sqrt() if root else rows_errors).mean()


def _bias(mask: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """What diffusers adds to the scores, ``[b, 1, k s]``."""
    return (~mask[:, None]).to(dtype) * torch.finfo(dtype).min
