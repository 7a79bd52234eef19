"""Handing parts to processes, and watching them: one that dies or hangs is replaced.

A part that took its worker with it is tried once more in a fresh one, and given up after that.
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

from surd.engine.parts import PartResult
from surd.engine.plan import PartState
from surd.errors import SurdError
from surd.progress import Tick

Work = Callable[[PartState, Tick], PartResult]
"""Computes a part; calls the tick after each batch, so that one knows it is alive."""

SILENCE_S = 600.0
"""Without a sign for that long, which no batch of any stage takes, a worker hangs."""
_OPENING_S = 1800.0
"""What loading models may take."""
_TRIES = 2


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    job: PartState | None = None
    is_open: bool = False
    heard_s: float = field(default_factory=time.monotonic)


def over_processes(
    open_: Callable[[], Work],
    jobs: Sequence[PartState],
    processes: int,
    give_up: Callable[[PartState, str], PartResult],
    silence_s: float = SILENCE_S,
) -> Iterator[PartResult]:
    """Yield each part as it is done; `give_up` makes the result of one that cannot be.

    Every process calls `open_` once; it can be pickled. Raises what a worker raised, and SurdError
    where workers die before they have any part.
    """
    waiting, tries = deque(jobs), Counter[int]()
    workers: list[_Worker] = []
    try:
        while waiting or any(worker.job for worker in workers):
            while waiting and len(workers) < min(processes, len(jobs)):
                workers.append(_start(open_))
            for worker in workers:
                if worker.is_open and worker.job is None and waiting:
                    _hand(worker, waiting.popleft())
            for worker, message in _heard(workers, silence_s):
                if isinstance(message, Exception):
                    raise message
                if isinstance(message, PartResult):
                    worker.job = None
                    yield message
                if not isinstance(message, str):
                    continue
                workers.remove(worker)
                _end(worker)
                if worker.job is None:
                    if worker.is_open:  # it had given its last result
                        continue
                    raise SurdError(f"a worker process cannot start: it {message}")
                tries[worker.job.part] += 1
                if tries[worker.job.part] < _TRIES:
                    waiting.append(worker.job)
                else:
                    yield give_up(worker.job, f"its worker {message}, {_TRIES} times")
    finally:
        for worker in workers:
            _end(worker)


def _start(open_: Callable[[], Work]) -> _Worker:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(open_, theirs), daemon=True)
    process.start()
    theirs.close()  # so that ours ends when the process does
    return _Worker(process, ours)


def _hand(worker: _Worker, job: PartState) -> None:
    worker.job, worker.heard_s = job, time.monotonic()
    with contextlib.suppress(OSError):  # it has died, which is heard next
        worker.connection.send(job)


def _heard(
    workers: Sequence[_Worker], silence_s: float
) -> Iterator[tuple[_Worker, PartResult | Exception | str]]:
    """What workers gave, raised, or died of; waits for one of them, at most a second."""
    by_connection = {worker.connection: worker for worker in workers}
    spoke = wait(list(by_connection), timeout=1)
    now = time.monotonic()
    for worker in [by_connection[connection] for connection in spoke]:  # type: ignore[index]
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            yield worker, _cause(worker)
            continue
        worker.is_open, worker.heard_s = True, now
        if message is not None:
            yield worker, message
    for worker in list(workers):
        idle = worker.is_open and worker.job is None
        limit_s = silence_s if worker.is_open else _OPENING_S
        if worker.connection not in spoke and not idle and now - worker.heard_s > limit_s:
            yield worker, f"gave no sign for {limit_s:.0f} s"


def _cause(worker: _Worker) -> str:
    """What it died of."""
    worker.process.join(5)
    code = worker.process.exitcode
    if code == -signal.SIGKILL:
        return "was killed, as by the system when memory runs out"
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
        threading.Thread(target=die_with, args=(parent,), daemon=True).start()

    def tell(message: PartResult | Exception | None) -> None:
        try:
            connection.send(message)
        except OSError:  # the parent is gone: nobody may go on for it, nor note a failure
            os._exit(1)

    try:
        work = open_()
        tell(None)
        while (job := _next_job(connection)) is not None:
            tell(work(job, lambda counts: tell(None)))
    except Exception as error:
        tell(error if isinstance(error, SurdError) else RuntimeError(repr(error)))


def _next_job(connection: Connection) -> PartState | None:
    """None once the parent is gone."""
    try:
        job: PartState = connection.recv()
    except (EOFError, OSError):
        return None
    return job


def die_with(parent: BaseProcess) -> None:
    """A killed parent must leave nobody behind who goes on writing."""
    parent.join()
    os._exit(1)
