"""The command line in a process that kills itself at a chosen moment.

Moments are counted in what a process does to files of its own: each opening, renaming, making or
removing below a folder is one. Python tells of them before they happen
(https://docs.python.org/3/library/audit_events.html). Waiting some time at such a moment before the
blow brings it into what is computed in between.

Processes are forked from one that has imported everything, for most of a small command is imports.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path

_IMPORTED_BEFORE = [
    "surd.cli.app",
    "torch",
    "transformers",
    "open_clip",
    "diffusers",
    "pyarrow.parquet",
]
_TOUCHING = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """-9 when it was killed."""
    moments: int
    """What it did to files below the folder; 0 when it was killed."""
    said: str


class Surd:
    """Runs ``surd`` with an environment, one command at a time.

    What is read of the environment at import is that of the time of the first command.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        self._folder = folder
        self._environment = dict(environment)
        self._context: ForkServerContext = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(_IMPORTED_BEFORE)

    def __call__(
        self,
        arguments: Sequence[object],
        below: Path,
        *,
        at: int = 0,
        wait_s: float = 0,
        apart: bool = False,
    ) -> Ended:
        """Run a command; with `at`, kill it `wait_s` after that many moments below a folder. With
        `apart`, stages have processes of their own, as they would with many rows."""
        log, note = self._folder / "log.txt", self._folder / "moments.txt"
        log.write_bytes(b"")
        note.write_text("0")
        command = [str(argument) for argument in arguments]
        process = self._context.Process(
            target=_run,
            args=(command, self._environment, str(below), at, wait_s, apart, log, note),
        )
        process.start()
        process.join()
        return Ended(process.exitcode or 0, int(note.read_text() or 0), log.read_text())


def _run(
    command: list[str],
    environment: dict[str, str],
    below: str,
    at: int,
    wait_s: float,
    apart: bool,
    log: Path,
    note: Path,
) -> None:
    os.environ.update(environment)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    moments = 0

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        nonlocal moments
        if event not in _TOUCHING or not arguments:
            return
        path = arguments[0]
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if name.startswith(below):
            moments += 1
            if moments == at:
                _strike(wait_s)

    sys.addaudithook(watch)
    sys.argv = ["surd", *command]
    from surd.cli.app import main
    from surd.engine import local

    if apart:
        local._ROWS_WORTH_A_PROCESS = 1
    code = 0
    try:
        main()
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    note.write_text(str(moments))
    os._exit(code)


def _strike(wait_s: float) -> None:
    if wait_s:
        threading.Timer(wait_s, os.kill, (os.getpid(), signal.SIGKILL)).start()
    else:
        os.kill(os.getpid(), signal.SIGKILL)
