"""What an engine hands to workers, and what it asks of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from surd.engine.parts import PartResult
from surd.progress import Tick

_PARTS_AT_ONCE = 8


class Job(Protocol):
    """Something to compute that belongs to one part."""

    @property
    def part(self) -> int:
        """The part's number."""

    @property
    def rows(self) -> int:
        """Its samples."""


AnyJob = TypeVar("AnyJob", bound=Job)
Work = Callable[[Sequence[Any], Tick], Iterator[PartResult]]
"""Computes some jobs in order; yields each as it is done, and calls the tick after each batch with
the rows it has done, by status, so that one knows it is alive."""
Open = Callable[[Any], Work]
"""Loads what the work needs, for the parameters of one worker. Can be pickled."""
GiveUp = Callable[[Any, str], PartResult]
"""Makes the result of a job that cannot be computed, and says why."""


def take(waiting: deque[AnyJob], workers: int) -> list[AnyJob]:
    """The next jobs for a worker: several, so that it can read ahead, and fewer towards the end, so
    that none is left waiting for another."""
    count = max(1, min(_PARTS_AT_ONCE, len(waiting) // (2 * workers)))
    return [waiting.popleft() for _ in range(min(count, len(waiting)))]
