"""The same done with many things, by several processes, in order."""

from __future__ import annotations

import contextlib
import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from multiprocessing.connection import Connection
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")


def in_processes(
    work: Callable[[Task], Result], tasks: Iterable[Task], processes: int
) -> Iterator[Result]:
    """``work`` of each task, in order. Each process has one task at a time.

    What can be pickled is ``work``, tasks and results. Tasks are done here while the processes
    start, and so is one at which a process dies.
    """
    left = iter(tasks)
    with ExitStack() as stack:
        idle = deque(stack.enter_context(_started(work)) for _ in range(processes))
        waiting: deque[tuple[Task, Connection | None, list[Result]]] = deque()
        is_up = False
        while True:
            while idle and (task := next(left, None)) is not None:
                with contextlib.suppress(OSError):  # it has died, which receiving tells
                    idle[0].send(task)
                waiting.append((task, idle.popleft(), []))
            if not waiting:
                return
            task, connection, done = waiting[0]
            if connection is not None and not is_up and not (is_up := connection.poll()):
                more = next(left, None)
                if more is not None:
                    waiting.append((more, None, [work(more)]))
                    continue
            waiting.popleft()
            if connection is not None:
                try:
                    done.append(connection.recv())
                except (EOFError, OSError):
                    done.append(work(task))
                idle.append(connection)
            yield done[0]


@contextlib.contextmanager
def _started(work: Callable[[Task], Result]) -> Iterator[Connection]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(work, theirs), daemon=True)
    process.start()
    theirs.close()  # so that ours ends when the process does
    try:
        yield ours
    finally:
        ours.close()
        process.kill()
        process.join()


def _serve(work: Callable[[Task], Result], connection: Connection) -> None:
    """In the process: until the other end is closed, be it by the death of who holds it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with contextlib.suppress(EOFError, OSError):
        while True:
            connection.send(work(connection.recv()))
