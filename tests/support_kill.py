"""The command line in a process that kills itself at a chosen moment.

Moments are counted in what a process does to files of its own: each opening, renaming, making or
removing below a folder is one. Python tells of them before they happen
(https://docs.python.org/3/library/audit_events.html). Waiting some time at such a moment before the
blow brings it into what is computed in between. An undisturbed run says when each moment came, so
that blows can be spread over the time that a command takes.

Processes are forked from one that has imported everything, for most of a small command is imports.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any

from support_counting import Notes, stand_ins

_IMPORTED_BEFORE = [
    "surd.cli.app",
    "torch",
    "transformers",
    "open_clip",
    "diffusers",
    "pyarrow.parquet",
]
_SECONDS_A_CALL = 0.06
_OF_EACH_RUN = {".surd.lock", ".lock"}
_TOUCHING = {"open", "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link"}


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    """-9 when it was killed."""
    times_s: list[float]
    """Moments at which it touched files below the folder, from its start; none when killed."""
    hit: tuple[str, ...]
    """Of a killed build: the stage whose turn it was, and the others that were under way."""
    said: str

    @property
    def moments(self) -> int:
        """What it did to files below the folder; 0 when it was killed."""
        return len(self.times_s)


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
        given: Path | None = None,
    ) -> Ended:
        """Run a command; with `at`, kill it `wait_s` after that many moments below a folder. With
        `apart`, stages have processes of their own, as they would with many rows. With `given`,
        models are stand-ins that note in this file what they are given."""
        log, note = self._folder / "log.txt", self._folder / "moments.json"
        log.write_bytes(b"")
        note.write_text("{}")
        command = [str(argument) for argument in arguments]
        process = self._context.Process(
            target=_run,
            args=(command, self._environment, str(below), at, wait_s, apart, given, log, note),
        )
        process.start()
        process.join()
        told = json.loads(note.read_text())
        times_s, hit = told.get("times_s", []), tuple(told.get("hit", ()))
        return Ended(process.exitcode or 0, times_s, hit, log.read_text())


def contents(folder: Path) -> dict[str, str]:
    """Relative path -> digest of every file; of the manifest and of descriptions without times."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(_timeless(path)).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in _OF_EACH_RUN
    }


def differing(folder: Path, undisturbed: Mapping[str, str]) -> list[str]:
    """Files that are not there, should not be there, or have other contents."""
    now = contents(folder)
    return sorted(k for k in now.keys() | undisturbed.keys() if now.get(k) != undisturbed.get(k))


def _timeless(path: Path) -> bytes:
    if path.name != "surd.json":
        return path.read_bytes()
    manifest = json.loads(path.read_text())
    for stage in manifest["stages"].values():
        for name in ("seconds", "finished_at"):
            del stage[name]
    for name in ("collect", "download", *manifest["stages"]):
        manifest["stages"].get(name, {}).pop("counts", None)  # new and known of the last run
    return json.dumps(manifest).encode()


# in the process ---------------------------------------------------------------------------------


def _run(
    command: list[str],
    environment: dict[str, str],
    below: str,
    at: int,
    wait_s: float,
    apart: bool,
    given: Path | None,
    log: Path,
    note: Path,
) -> None:
    os.environ.update(environment)
    with log.open("ab") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    turns = _watch_turns()
    if given is not None:
        _stand_in(given)
    began_s = time.monotonic()
    counter, times_s = itertools.count(1), list[float]()

    def strike() -> None:
        note.write_text(json.dumps({"hit": turns()}))
        os.kill(os.getpid(), signal.SIGKILL)

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if event not in _TOUCHING or not arguments:
            return
        path = arguments[0]
        name = os.fsdecode(path) if isinstance(path, str | bytes | os.PathLike) else ""
        if name.startswith(below):
            times_s.append(time.monotonic() - began_s)
            if next(counter) != at:
                return
            if wait_s:
                threading.Timer(wait_s, strike).start()
            else:
                strike()

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
    note.write_text(json.dumps({"times_s": times_s}))
    os._exit(code)


def _watch_turns() -> Callable[[], list[str]]:
    """Follow the stages of a build; what is returned says whose turn it is, if it is one's, then
    who else is under way: was begun, and is not done with all parts."""
    from surd.engine import overlap

    go_on = overlap._go_on
    turn: list[Any] = []
    steps: list[Any] = []

    def noting(step: Any, running: Sequence[Any], *others: Any) -> bool:
        turn[:], steps[:] = [step], running
        try:
            return go_on(step, running, *others)
        finally:
            turn.clear()

    overlap._go_on = noting

    def turns() -> list[str]:
        if all(step.is_done for step in steps):
            return ["publish" if steps else "collect"]
        now = [step for step in turn if step.jobs or step.results]
        others = [step for step in steps if step.results and step.open and step not in now]
        return [step.stage.name for step in (*now, *others)] or ["none"]

    return turns


def _stand_in(given: Path) -> None:
    """Put stand-ins in the place of models, which take their time."""
    notes = Notes(given, lambda rows: time.sleep(_SECONDS_A_CALL))
    for owner, name, value in stand_ins(notes):
        setattr(owner, name, value)
