"""Work for processes of their own: it can be imported there."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from surd.engine.parts import PartResult
from surd.engine.plan import PartState
from surd.engine.workers import Work
from surd.errors import ModelError
from surd.progress import Tick


def open_(how: str, diary: Path) -> Work:
    """Note each try in the diary; do `how` to the worker that has part 1."""
    if how == "no model":
        raise ModelError("shout.model: there is none")
    if how == "dies at once":
        os._exit(3)

    def work(job: PartState, tick: Tick) -> PartResult:
        with diary.open("a") as file:
            file.write(f"{job.part} {os.getpid()}\n")
        tries = [line for line in diary.read_text().splitlines() if line.startswith("1 ")]
        if job.part == 1 and (how.endswith("always") or len(tries) == 1):
            disturb(how)
        for _ in range(50 if how == "is slow" else 0):
            time.sleep(0.1)
            tick({})
        return PartResult(job.part, {"ok": 1})

    return work


def disturb(how: str) -> None:
    if how.startswith("killed"):
        os.kill(os.getpid(), signal.SIGKILL)
    if how.startswith("crashes"):
        os.abort()
    if how.startswith("exits"):
        os._exit(7)
    if how.startswith("hangs"):
        time.sleep(3600)
    if how.startswith("raises"):
        raise ValueError("out of the blue")
