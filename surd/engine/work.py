"""What an engine hands to workers, and what it asks of them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Protocol

from surd.engine.parts import PartResult
from surd.progress import Tick

_PARTS_AT_ONCE = 8
_PAUSE_S = 0.02


class Job(Protocol):
    """Something to compute that belongs to one part."""

    @property
    def part(self) -> int:
        """The part's number."""

    @property
    def rows(self) -> int:
        """Its samples."""


Work = Callable[[Iterable[Any], Tick], Iterator[PartResult]]
"""Computes some jobs in order; yields each as it is done, and calls the tick after each batch with
the rows it has done, by status, so that one knows it is alive; with those that are known, first."""
Open = Callable[[Any], Work]
"""Loads what the work needs, for the parameters of one worker. Can be pickled."""
GiveUp = Callable[[Any, str], PartResult]
"""Makes the result of a job that cannot be computed, and says why."""
Results = Generator[PartResult | None, None, None]
"""Each part as it is done, in no certain order; None where none is done at the moment, so that the
caller can do something else."""


class Jobs:
    """Jobs that can be computed now; others may come while these are, until it is complete."""

    def __init__(self, jobs: Sequence[Job] = (), *, complete: bool = True) -> None:
        self._waiting = deque(jobs)
        self.complete = complete
        self.parts = len(jobs)
        """How many there will be, at most."""
        self.rows = sum(job.rows for job in jobs)
        """Of those."""

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def are_done(self) -> bool:
        """Whether none waits and none will come."""
        return self.complete and not self._waiting

    def add(self, job: Job) -> None:
        """One more."""
        self._waiting.append(job)

    def put_back(self, jobs: Sequence[Job]) -> None:
        """Jobs that were taken, and are the next ones again."""
        self._waiting.extendleft(reversed(jobs))

    def take(self, workers: int) -> list[Job]:
        """The next for one of so many workers: several, so that it can read ahead, and fewer
        towards the end, so that none is left waiting for another."""
        count = len(self)
        if workers > 1:
            count = max(1, min(_PARTS_AT_ONCE, count // (2 * workers)))
        return [self._waiting.popleft() for _ in range(min(count, len(self)))]

    def now(self) -> Iterator[Any]:
        """One after the other; ends where the next would have to be waited for."""
        while self._waiting:
            yield self._waiting.popleft()


def finished(results: Results) -> Iterator[PartResult]:
    """Wait for each result."""
    for result in results:
        if result is None:
            time.sleep(_PAUSE_S)
        else:
            yield result
