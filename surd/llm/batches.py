"""Token lists to vectors: batches of like length, and less at once when memory runs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from surd.models.llm import Llm
from surd.models.memory import halving
from surd.recipe.embed_llm import Pool

Given = TypeVar("Given")
Made = TypeVar("Made")
Tokens = Sequence[int]
_PADDING_WORTH_A_BATCH = 1 / 64
"""Of the budget: with more padding than this, beginning another batch costs less."""
Vectors = dict[int, list[npt.NDArray[np.float16]]]
"""Layer -> one array for each text: ``[h]``, or ``[tokens, h]`` with pool none."""
Live = Callable[[], None]
"""Takes a sign of life, for who watches a worker."""
Computed = Callable[[Sequence[int], Vectors], None]
"""Takes what came of a batch: which texts, and their vectors."""


def silent() -> None:
    """Nobody watches."""


def _unseen(rows: Sequence[int], vectors: Vectors) -> None:
    """Nobody wants a batch before the others."""


class Embedder:
    """Turns token lists into vectors of several layers, one pass for all."""

    def __init__(
        self, llm: Llm, layers: Sequence[int], pool: Pool, batch_tokens: int, threads: int = 1
    ) -> None:
        self._llm = llm
        self._layers = list(layers)
        self._pool = pool
        self._batch_tokens = batch_tokens
        self._threads = threads

    def vectors(self, texts: Sequence[Tokens], computed: Computed = _unseen) -> Vectors:
        """In the order given; empty for a text without tokens. Calls ``computed`` after each batch.

        A value beyond float16 (65,504) becomes infinite; one that the model gave as infinite, NaN.
        Raises ModelError when the memory does not suffice for a single text.
        """
        found: Vectors = {layer: [np.empty(0, np.float16)] * len(texts) for layer in self._layers}
        batches = list(by_length([len(text) for text in texts], self._batch_tokens))
        chosen = [[texts[row] for row in rows] for rows in batches]
        for rows, vectors in zip(batches, each(self._batch, chosen, self._threads), strict=True):
            computed(rows, vectors)
            for layer, pooled in vectors.items():
                for row, vector in zip(rows, pooled, strict=True):
                    found[layer][row] = vector
        return found

    def _batch(self, texts: Sequence[Tokens]) -> Vectors:
        pieces = halving(self._compute, texts, _too_long)
        if len(pieces) > 1:
            fitted = -(-len(texts) // len(pieces)) * max(map(len, texts))
            self._batch_tokens = min(self._batch_tokens, fitted)
        return {n: [vector for some in pieces for vector in some[n]] for n in self._layers}

    def _compute(self, texts: Sequence[Tokens]) -> Vectors:
        lengths = [len(text) for text in texts]
        states = self._llm.states(padded(texts, self._llm.pad_id), lengths, self._layers)
        return {layer: pool(x, lengths, self._pool) for layer, x in states.items()}


def _too_long(text: Tokens) -> str:
    return (
        f"one prompt of {len(text)} tokens does not fit into the device's memory; use "
        "--device map, --quantize, or a smaller embed_llm.max_tokens"
    )


def each(work: Callable[[Given], Made], some: Sequence[Given], threads: int) -> Iterator[Made]:
    """The work on each, in order. Several threads take one core each: on CPUs that is a tenth
    faster than several cores on one batch, and what comes out does not depend on their number."""
    if threads == 1:
        yield from map(work, some)
        return
    before = torch.get_num_threads()
    try:
        with ThreadPoolExecutor(threads, "surd-batch", torch.set_num_threads, (1,)) as pool:
            yield from pool.map(work, some)
    finally:
        torch.set_num_threads(before)


def by_length(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of texts that have tokens, in batches of at most `batch_tokens`, padding included.

    The longest come first, so that memory runs out at once if it does; a text that is longer
    than the budget goes alone.
    """
    order = sorted((i for i, n in enumerate(lengths) if n), key=lambda i: -lengths[i])
    batch: list[int] = []
    padding = 0
    for i in order:
        longest = lengths[batch[0]] if batch else lengths[i]
        padding += longest - lengths[i]
        full = (len(batch) + 1) * longest > batch_tokens
        if batch and (full or padding > batch_tokens * _PADDING_WORTH_A_BATCH):
            yield batch
            batch, padding = [], 0
        batch.append(i)
    if batch:
        yield batch


def padded(texts: Sequence[Tokens], pad_id: int) -> torch.Tensor:
    """``[b, s]`` int64, padded on the right."""
    width = max(map(len, texts))
    ids = np.full((len(texts), width), pad_id, np.int64)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = text
    return torch.from_numpy(ids)


def pool(states: torch.Tensor, lengths: Sequence[int], how: Pool) -> list[npt.NDArray[np.float16]]:
    """``[b, s, h]``, of which the first `lengths` tokens count, to an array a text."""
    ends = torch.tensor(lengths, device=states.device)
    states = torch.where(states.isfinite(), states, torch.nan)
    if how == "last":
        rows = torch.arange(len(lengths), device=states.device)
        return list(states[rows, ends - 1].to(torch.float16).cpu().numpy())
    if how == "mean":
        outside = torch.arange(states.shape[1], device=states.device) >= ends[:, None]  # [b, s]
        sums = states.float().masked_fill(outside[:, :, None], 0).sum(dim=1)  # [b, h]
        return list((sums / ends[:, None]).to(torch.float16).cpu().numpy())
    every = states.to(torch.float16).cpu().numpy()
    return [some[:length].copy() for some, length in zip(every, lengths, strict=True)]
