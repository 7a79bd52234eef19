"""Work on hostile bytes in another process: a time limit or a crash ends that one alone."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

LIMIT_S = 60.0
"""Seconds of processor time, over all threads: honest images of 100 megapixels take some ten. Work
that waits for ever ends after ten times as long by the clock."""

_START = """
import signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C waits for no decoder
sys.path[:] = {path!r}
from surd.files.apart import _serve
_serve({fd})
"""
_CRASHES = ("SIGSEGV", "SIGBUS", "SIGABRT", "SIGILL", "SIGFPE", "SIGTRAP", "SIGSYS")


class WorkEnded(Exception):  # noqa: N818  (a verdict on the work, not a failure of surd)
    """The work took too long, or crashed."""


class _Worker:
    """A process that does one thing at a time, as long as the other end of its pipe is open."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        with theirs:
            path = [folder or str(Path.cwd()) for folder in sys.path]
            start = _START.format(path=path, fd=theirs.fileno())
            self.process = subprocess.Popen(  # noqa: S603
                [sys.executable, "-W", "ignore", "-c", start],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        try:
            self.connection.recv()
        except (EOFError, OSError) as error:
            code = self.process.wait()
            raise MemoryError(f"a process to decode in cannot start (exit code {code})") from error


_idle: list[_Worker] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_idle.clear)  # they are the parent's


def apart(work: Callable[..., Result], *arguments: Any) -> Result:
    """``work(*arguments)``, done in another process; buffers of the result are not copied.

    Work, arguments and result are pickled. Raises what the work raises; WorkEnded where it takes
    more than LIMIT_S or crashes, and MemoryError where the process cannot start or is killed.
    """
    worker = _borrow()
    try:
        worker.connection.send((LIMIT_S, work, arguments))
        result = _receive(worker.connection)
    except (EOFError, OSError) as error:
        worker.connection.close()
        raise _why(worker.process.wait()) from error
    except BaseException:  # Ctrl-C: nobody may take this answer for another's
        worker.connection.close()
        worker.process.kill()
        worker.process.wait()
        raise
    _idle.append(worker)
    if isinstance(result, BaseException):
        raise result
    return result  # type: ignore[no-any-return]


def _borrow() -> _Worker:
    while _idle:
        with contextlib.suppress(IndexError):  # another thread was faster
            worker = _idle.pop()
            if worker.process.poll() is None:
                return worker
    return _Worker()


def _why(code: int) -> Exception:
    if code in (-signal.SIGPROF, -signal.SIGALRM):
        return WorkEnded(f"not done in {LIMIT_S:g} seconds")
    if code >= 0:
        return WorkEnded(f"ended with exit code {code}")
    name = signal.Signals(-code).name
    if name in _CRASHES:
        return WorkEnded(f"crashed ({name})")
    return MemoryError(f"killed while decoding ({name}), as where memory runs out")


def _receive(connection: Connection) -> Any:
    """A pickled object, with its buffers behind it (PEP 574)."""
    head, sizes = connection.recv()
    buffers = [bytearray(size) for size in sizes]
    for buffer in buffers:
        connection.recv_bytes_into(buffer)
    return pickle.loads(head, buffers=buffers)  # noqa: S301  (of our own process)


# in the process ---------------------------------------------------------------------------------


def _serve(file_descriptor: int) -> None:
    """Until the other end is closed, be it by the death of who holds it. The limit is in here, so
    that it holds without anybody else."""
    for ends in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(ends, signal.SIG_DFL)
    connection = Connection(file_descriptor)
    connection.send(None)
    with contextlib.suppress(EOFError, OSError):
        while True:
            limit_s, work, arguments = connection.recv()
            _limit(limit_s)
            try:
                head, buffers = _packed(work(*arguments))
            except Exception as error:
                head, buffers = _packed(error)
            _limit(0)
            connection.send((head, [len(buffer) for buffer in buffers]))
            for buffer in buffers:
                connection.send_bytes(buffer)


def _packed(result: Any) -> tuple[bytes, list[memoryview]]:
    """Pickled, and the buffers that belong behind it."""
    buffers: list[pickle.PickleBuffer] = []
    head = pickle.dumps(result, protocol=5, buffer_callback=buffers.append)
    return head, [buffer.raw() for buffer in buffers]


def _limit(seconds: float) -> None:
    """The system ends this process after so much work, whatever library is at it; 0 for never."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, 10 * seconds)
