"""Handing parts to Ray actors: each opens its work once, and one that dies or hangs is replaced."""

from __future__ import annotations

import faulthandler
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from surd.engine.cluster import Seats
from surd.engine.parts import PartResult
from surd.engine.work import GiveUp, Job, Jobs, Results, Work
from surd.errors import SurdError

log = logging.getLogger("surd")

TRIES = 3
"""Times a part may take its worker with it, and times in all that a worker may fail to start."""
SILENCE_S = 1800.0
"""Without a sign for that long, which neither a batch of any stage takes nor loading its models, a
worker hangs: it ends itself, and leaves where it stood in Ray's log of it."""
_PATIENCE_S = 60.0


class _Worker:
    """What runs on the cluster."""

    def __init__(self, open_: Callable[[], Work], silence_s: float) -> None:
        self._open = open_
        self._silence_s = silence_s
        self._opened: Work | None = None

    def ready(self) -> None:
        """Answers once the worker has its place."""

    def work(self, jobs: Sequence[Any]) -> Iterator[PartResult]:
        self._live()
        try:
            if self._opened is None:
                self._opened = self._open()
            yield from self._opened(jobs, lambda counts: self._live())
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _live(self) -> None:
        """Until the next such sign the process has some time to live: of all timers this is the one
        that needs no lock of Python's, which code that hangs may hold."""
        faulthandler.dump_traceback_later(self._silence_s, exit=True)


def over_actors(open_: Callable[[], Work], jobs: Jobs, seats: Seats, give_up: GiveUp) -> Results:
    """Compute the jobs; yield each result as it comes.

    A worker gets some parts at a time. When it dies, or hangs, what it had not finished goes to a
    fresh one; the part it was at is given up after ``TRIES`` deaths. Raises what a worker raised.
    """
    import ray
    from ray.exceptions import RayError, RayTaskError

    actor = ray.remote(_Worker).options(num_cpus=seats.cpus, num_gpus=seats.gpus)
    deaths: Counter[int] = Counter()
    idle: list[Any] = []
    starting: dict[Any, Any] = {}  # reference -> actor
    busy: dict[Any, tuple[Any, dict[int, Job]]] = {}  # stream -> actor, what it has to give
    heard_s = time.monotonic()

    try:
        while not jobs.are_done or busy:
            while jobs and idle:
                handle, some = idle.pop(), jobs.take(seats.actors)
                stream = handle.work.options(num_returns="streaming").remote(some)
                busy[stream] = (handle, {job.part: job for job in some})
            while len(starting) < len(jobs) and len(starting) + len(busy) < seats.actors:
                handle = actor.remote(open_, SILENCE_S)
                starting[handle.ready.remote()] = handle
            pending = [*busy, *starting]
            ready = ray.wait(pending, num_returns=1, timeout=0)[0] if pending else []
            if not ready:
                if not busy and starting and time.monotonic() - heard_s > _PATIENCE_S:
                    log.warning("the Ray cluster has no free resources for %s yet", seats)
                    heard_s = time.monotonic()
                yield None
                continue
            heard_s = time.monotonic()
            if ready[0] in starting:
                handle = starting.pop(ready[0])
                try:
                    ray.get(ready[0])
                except RayError as error:
                    deaths[-1] += 1
                    if deaths[-1] == TRIES:
                        raise SurdError(
                            f"no worker could start on the Ray cluster: {_why(error)}; "
                            "install the same version of surd on all its machines"
                        ) from error
                else:
                    idle.append(handle)
                continue
            stream = ready[0]
            handle, left = busy[stream]
            try:
                result: PartResult = ray.get(next(stream))
            except StopIteration:
                del busy[stream]
                idle.append(handle)
            except RayTaskError as error:
                raise error.cause from error
            except RayError as error:
                del busy[stream]
                first = next(iter(left.values()), None)  # None: it had given its last result
                if first is not None:
                    deaths[first.part] += 1
                    if deaths[first.part] == TRIES:
                        del left[first.part]
                        yield give_up(first, f"its worker died {TRIES} times: {_why(error)}")
                jobs.put_back(list(left.values()))
            else:
                del left[result.part]
                yield result
    finally:
        for handle in [*idle, *starting.values(), *(handle for handle, _ in busy.values())]:
            ray.kill(handle)


def _why(error: Exception) -> str:
    """The line of Ray's long message that names a cause."""
    lines = str(error).splitlines() or [type(error).__name__]
    telling = [line for line in lines if "is dead because" in line or "Error:" in line]
    return (telling or lines)[-1].strip()[:300]
