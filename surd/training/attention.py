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
class Reader:
    """A cross-attention layer, with what it is asked."""

    layer: Any
    queries: torch.Tensor
    """``[n, c]``, hidden states of the UNet."""
    variance: float
    """Of its answers, which are compared in this unit."""


@torch.no_grad()
def readers_of(
    unet: Any,
    runs: Iterable[tuple[dict[str, Any], torch.Tensor]],
    count: int,
    autocast: Callable[[], AbstractContextManager[Any]] = nullcontext,
) -> list[Reader]:
    """The layers of a UNet, with `count` queries of each at most.

    `runs` are arguments to call the UNet with, and the indices ``[count of this run]`` of the
    positions (batch x places, wrapped around) whose states are kept. The UNet alone runs under
    `autocast`, as it does in training.
    """
    layers = [module for name, module in unet.named_modules() if name.endswith(f".{_LAYER}")]
    asked: dict[Any, list[torch.Tensor]] = {layer: [] for layer in layers}
    answered: dict[Any, list[torch.Tensor]] = {layer: [] for layer in layers}
    now: list[torch.Tensor] = []

    def note(layer: Any, args: Any, kwargs: Any, answer: torch.Tensor) -> None:
        states = args[0] if args else kwargs["hidden_states"]  # [b, q, c]
        places = now[0] % (states.shape[0] * states.shape[1])
        asked[layer].append(states.flatten(0, 1)[places].clone())
        answered[layer].append(answer.float().var()[None])

    hooks = [layer.register_forward_hook(note, with_kwargs=True) for layer in layers]
    try:
        for arguments, places in runs:
            now[:] = [places]
            with autocast():
                unet(**arguments)
    finally:
        for hook in hooks:
            hook.remove()
    return [
        Reader(layer, torch.cat(asked[layer])[:count], float(torch.cat(answered[layer]).mean()))
        for layer in layers
    ]


def attention_error(
    readers: Sequence[Reader], found: torch.Tensor, aim: torch.Tensor, *, root: bool = False
) -> torch.Tensor:
    """How differently the layers answer to text embeddings `found` and `aim`, ``[b, s, d]`` both.

    The mean over layers of the squared difference over the variance, and of the rows, or of the
    rows' roots; every row is asked a few of the queries, drawn by torch's generator of the CPU.
    """
    errors = []  # [b] each
    for reader in readers:
        rows = torch.randint(len(reader.queries), (len(found), _ASKED_AT_ONCE))
        queries = reader.queries[rows.to(reader.queries.device)]  # [b, q, c]
        with torch.no_grad():
            wanted = reader.layer(queries, encoder_hidden_states=aim.to(queries.dtype))
        said = reader.layer(queries, encoder_hidden_states=found.to(queries.dtype))
        errors.append((said.float() - wanted.float()).square().mean((1, 2)) / reader.variance)
    rows_errors = torch.stack(errors).mean(0)  # [b]
    return ((rows_errors + _FLAT).sqrt() if root else rows_errors).mean()
