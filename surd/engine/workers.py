"""Handing parts to processes, and watching them: one that dies or hangs is replaced.

A worker gets some parts at a time; one that is alone gets each as it comes. The part at which a
worker died is tried once more in a fresh one, and given up after that.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from surd.engine.parts import PartResult
from surd.engine.work import GiveUp, Job, Jobs, Results, Work
from surd.errors import SurdError

SILENCE_S = 600.0
"""Without a sign for that long, which no batch of any stage takes, a worker hangs."""
_OPENING_S = 1800.0
"""What loading models may take."""
_TRIES = 2


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    place: int
    """Which of the ways to open the work it has."""
    left: dict[int, Any] = field(default_factory=dict)
    """By part, the jobs it has to give, in order."""
    is_open: bool = False
    heard_s: float = field(default_factory=time.monotonic)


def over_processes(
    opens: Sequence[Callable[[], Work]],
    jobs: Jobs,
    give_up: GiveUp,
    silence_s: float = SILENCE_S,
) -> Results:
    """Yield each part as it is done; `give_up` makes the result of one that cannot be.

    There is a process for each of `opens`, which calls it once; they can be pickled. Raises what a
    worker raised, and SurdError where workers die before they have any part.
    """
    tries, places = Counter[int](), deque(range(len(opens)))
    workers: list[_Worker] = []
    try:
        while not jobs.are_done or any(worker.left for worker in workers):
            while jobs and places:
                place = places.popleft()
                workers.append(_start(opens[place], place))
            for worker in workers:
                if jobs and worker.is_open and not (worker.left and len(workers) > 1):
                    _hand(worker, jobs.take(len(workers)))
            for worker, message in _heard(workers, silence_s):
                if isinstance(message, Exception):
                    raise message
                if isinstance(message, PartResult):
                    del worker.left[message.part]
                    yield message
                if not isinstance(message, str):
                    continue
                workers.remove(worker)
                places.append(worker.place)
                _end(worker)
                if not worker.is_open:
                    raise SurdError(f"cannot start a worker process: it {message}")
                first = next(iter(worker.left.values()), None)  # None: it had given its last result
                if first is not None:
                    tries[first.part] += 1
                    if tries[first.part] == _TRIES:
                        del worker.left[first.part]
                        yield give_up(first, f"its worker {message}, {_TRIES} times")
                jobs.put_back(list(worker.left.values()))
            yield None
    finally:
        for worker in workers:
            _end(worker)


def _start(open_: Callable[[], Work], place: int) -> _Worker:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(open_, theirs), daemon=True)
    process.start()
    theirs.close()  # so that ours ends when the process does
    return _Worker(process, ours, place)


def _hand(worker: _Worker, jobs: Sequence[Job]) -> None:
    if not worker.left:
        worker.heard_s = time.monotonic()
    worker.left |= {job.part: job for job in jobs}
    with contextlib.suppress(OSError):  # it has died, which is heard next
        worker.connection.send(jobs)


def _heard(
    workers: Sequence[_Worker], silence_s: float
) -> Iterator[tuple[_Worker, PartResult | Exception | str]]:
    """What workers gave, raised, or died of by now."""
    by_connection = {worker.connection: worker for worker in workers}
    spoke = wait(list(by_connection), timeout=0)
    now = time.monotonic()
    for worker in [by_connection[connection] for connection in spoke]:  # type: ignore[index]
        try:
            while worker.connection.poll():
                message = worker.connection.recv()
                worker.is_open, worker.heard_s = True, now
                if message is not None:
                    yield worker, message
        except (EOFError, OSError):
            yield worker, _cause(worker)
    for worker in list(workers):
        idle = worker.is_open and not worker.left
        limit_s = silence_s if worker.is_open else _OPENING_S
        if worker.connection not in spoke and not idle and now - worker.heard_s > limit_s:
            yield worker, f"gave no sign of life for {limit_s:.0f} s"


def _cause(worker: _Worker) -> str:
    """What it died of."""
    worker.process.join(5)
    code = worker.process.exitcode
    if code == -signal.SIGKILL:
        return "was killed, probably because memory ran out"
    if code is not None and code < 0:
        return f"died of {signal.Signals(-code).name}"
    return f"ended with exit code {code}"


def _end(worker: _Worker) -> None:
    worker.process.kill()
    worker.process.join()
    worker.connection.close()


# in the worker ----------------------------------------------------------------------------------


def _serve(open_: Callable[[], Work], connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to heed
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()

    def tell(message: PartResult | Exception | None) -> None:
        try:
            connection.send(message)
        except OSError:  # the parent is gone: nobody may go on for it, nor note a failure
            os._exit(1)

    try:
        work = open_()
        tell(None)
        while jobs := _next_jobs(connection):
            for result in work(_and_those_after(jobs, connection), lambda counts: tell(None)):
                tell(result)
    except Exception as error:
        tell(error if isinstance(error, SurdError) else RuntimeError(repr(error)))


def _and_those_after(jobs: Sequence[Any], connection: Connection) -> Iterator[Any]:
    """The jobs, and what has been handed over by the time that they are taken."""
    while jobs:
        yield from jobs
        jobs = _next_jobs(connection) if connection.poll() else ()


def _next_jobs(connection: Connection) -> Sequence[Any]:
    """None once the parent is gone."""
    try:
        jobs: Sequence[Any] = connection.recv()
    except (EOFError, OSError):
        return ()
    return jobs


def _die_with(parent: BaseProcess) -> None:
    """A killed parent must leave nobody behind who goes on writing."""
    parent.join()
    os._exit(1)
