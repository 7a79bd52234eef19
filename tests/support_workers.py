"""Work for processes of their own: it can be imported there."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Thread

import psutil

from surd.engine.parts import PartResult
from surd.engine.plan import PartState
from surd.engine.work import Work
from surd.errors import ModelError
from surd.progress import Tick


def open_(how: str, diary: Path) -> Work:
    """Note each try in the diary; do `how` to the worker that has part 1."""
    if how == "no model":
        raise ModelError("shout.model: there is none")
    if how == "dies at once":
        os._exit(3)
    if how == "a file that ends early":
        raise EOFError("Ran out of input")

    def work_on(job: PartState, tick: Tick) -> PartResult:
        with diary.open("a") as file:
            file.write(f"{job.part} {os.getpid()}\n")
        tries = [line for line in diary.read_text().splitlines() if line.startswith("1 ")]
        if job.part == 1 and (how.endswith("always") or len(tries) == 1):
            disturb(how)
        if how == "dies when idle" and job.part == 0:
            outlive(int(told(diary, 1, tick)[0]), tick)
        if how == "dies when idle" and job.part == 1:
            Thread(target=die_once_told, args=(diary.parent / "received",), daemon=True).start()
        for _ in range(50 if how == "is slow" else 0):
            time.sleep(0.1)
            tick({})
        return PartResult(job.part, {"ok": 1})

    return lambda jobs, tick: (work_on(job, tick) for job in jobs)


def open_chatty(done: Path) -> Work:
    """Work with many signs of life, which notes when it has given the last."""

    def work(jobs: Iterable[PartState], tick: Tick) -> Iterator[PartResult]:
        for job in jobs:
            for _ in range(200):
                tick({})
            done.touch()
            yield PartResult(job.part, {"ok": 1})

    return work


def told(diary: Path, part: int, tick: Tick) -> list[str]:
    """The processes that had a part, once there is one."""
    while not (found := re.findall(rf"^{part} (\d+)$", diary.read_text(), re.MULTILINE)):
        time.sleep(0.01)
        tick({})
    return found


def outlive(pid: int, tick: Tick) -> None:
    while psutil.pid_exists(pid):
        time.sleep(0.01)
        tick({})


def die_once_told(sign: Path) -> None:
    while not sign.exists():
        time.sleep(0.01)
    os._exit(1)


def disturb(how: str) -> None:
    if how.startswith("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if how.startswith("crashes"):
        os.abort()
    if how.startswith("exits"):
        os._exit(7)
    if how.startswith("hangs"):
        time.sleep(3600)
    if how.startswith("ends early"):
        raise EOFError("compressed file ended before its end")
    if how.startswith("raises"):
        raise ValueError("out of the blue")
