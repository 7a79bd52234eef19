"""Less at once where memory runs out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

from surd.errors import ModelError

log = logging.getLogger("surd")

Given = TypeVar("Given")
Made = TypeVar("Made")
_WORDS = ("out of memory", "can't allocate memory", "not enough memory")
"""Of plain RuntimeErrors, of CUDA's libraries and of PyTorch's allocators for CPUs."""


def halving(
    work: Callable[[Sequence[Given]], Made], items: Sequence[Given], what: Callable[[Given], str]
) -> list[Made]:
    """What `work` makes of all items; where memory runs out, of their halves in turn.

    One result for each piece, in order: more than one tells the caller to ask for less next time.
    Raises ModelError where a single item does not fit: `what` says which, and the mend.
    """
    try:
        return [work(items)]
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        if len(items) == 1:
            raise ModelError(what(items[0])) from error
    torch.cuda.empty_cache()  # outside the handler, which holds on to the batch
    half = (len(items) + 1) // 2
    log.warning("out of memory: continuing with %d at once", half)
    return halving(work, items[:half], what) + halving(work, items[half:], what)


class AtOnce:
    """How many items a model is given at once: less, from where memory ran out on."""

    def __init__(self, size: int) -> None:
        self.size = max(1, size)

    def each(
        self,
        work: Callable[[Sequence[Given]], Made],
        items: Sequence[Given],
        what: Callable[[Given], str],
    ) -> list[Made]:
        """What `work` makes of each piece of the items, in order; `what` as of :func:`halving`.

        Raises ModelError where a single item does not fit.
        """
        made: list[Made] = []
        while items:
            some, items = items[: self.size], items[self.size :]
            pieces = halving(work, some, what)
            if len(pieces) > 1:
                self.size = -(-len(some) // len(pieces))
            made += pieces
        return made


@contextmanager
def enough_memory(otherwise: str) -> Iterator[None]:
    """Raises ModelError with that text where memory runs out in the block."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        raise ModelError(otherwise) from error


def is_out_of_memory(error: BaseException) -> bool:
    """Whether less at once may help."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(some in str(error) for some in _WORDS)
    )
