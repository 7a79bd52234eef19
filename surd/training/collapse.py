"""A learned projection of the language model's vectors that comes to map all of them to the same:
features that resemble it then resemble nothing."""

from __future__ import annotations

import torch
from torch import nn

from surd.errors import ModelError
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.data import Data

_EVERY = 20
"""Steps."""
_TEXTS = 256
_SHARE = 0.05
"""Of the variance at the start, below which a projection has collapsed."""


class Watch:
    """Looks at a projection as it is learned."""

    def __init__(self, data: Data, projection: nn.Linear) -> None:
        texts = data.texts_drawn()
        chosen = texts[:: -(-len(texts) // _TEXTS)]
        self._vectors = torch.from_numpy(data.centred(chosen))  # [n, h]
        self._start = self._variance(projection)

    @torch.no_grad()
    def _variance(self, projection: nn.Linear) -> float:
        """Of what is projected, between texts, per feature."""
        vectors = self._vectors.to(projection.weight.device)
        return float(projection(vectors).float().var(dim=0).mean())

    def check(self, projection: nn.Linear, step: int) -> None:
        """Raises ModelError in one line where it has collapsed."""
        if step % _EVERY:
            return
        share = self._variance(projection) / max(self._start, 1e-12)
        if share < _SHARE:
            raise ModelError(
                f"step {step}: the learned projection has collapsed: what it makes of different "
                f"sentences varies by {share:.1%} of what it did at the start, so there is nothing "
                "to learn from it; rerun with --set train_adapter.projection=frozen --resume none"
            )


def watch_of(data: Data, projection: nn.Linear | None, params: TrainAdapterParams) -> Watch | None:
    """None where nothing can collapse; to be opened before anything is learned."""
    if projection is None or params.projection != "learned":
        return None
    if len(data.texts_drawn()) < 2:
        return None
    return Watch(data, projection)
