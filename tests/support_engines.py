"""A stage for tests of engines, in a module that workers on the cluster can import too."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from surd.engine.parts import PartResult
from surd.engine.plan import PartState
from surd.engine.work import Work
from surd.errors import ModelError
from surd.params import Params
from surd.progress import Tick
from surd.stages.base import Batch, Stage, StageFunction
from surd.store.schema import SAMPLES
from surd.store.workspace import Workspace


class Shout(Params):
    """What is to go wrong, and where: at rows whose prompt has ``at``."""

    at: str = ""
    wrong: str = ""
    notes: str = ""
    """A folder in which each process that opens the stage, and each that dies, leaves a file."""


SCHEMA = pa.schema([pa.field("id", pa.string(), nullable=False), pa.field("loud", pa.string())])


def open_shout(params: Shout) -> StageFunction:
    if params.wrong == "no model":
        raise ModelError("shout.model: there is none of that name")
    if params.notes:
        note(params, "opened")

    def function(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        for batch in batches:
            if params.wrong in WRONGS and any(
                params.at in prompt for prompt in batch.table["prompt"].to_pylist()
            ):
                WRONGS[params.wrong](params)
            loud = [prompt.upper() for prompt in batch.table["prompt"].to_pylist()]
            yield pa.table([batch.table["id"], pa.array(loud)], schema=SCHEMA)

    return function


def note(params: Shout, what: str) -> int:
    """Leave a file; gives how many there were of its kind."""
    before = len(list(Path(params.notes).glob(f"{what}-*")))
    Path(params.notes, f"{what}-{before}-{os.getpid()}").touch()
    return before


def _raise(params: Shout) -> None:
    raise ValueError("cannot shout that\nand some more lines")


def _disk_full(params: Shout) -> None:
    raise ModelError("no space left on the device; free some")


def _die_once(params: Shout) -> None:
    if note(params, "died") == 0:
        os._exit(1)


def _die(params: Shout) -> None:
    note(params, "died")
    os._exit(1)


def _hang_once(params: Shout) -> None:
    if note(params, "hung") == 0:
        time.sleep(600)


def _be_slow(params: Shout) -> None:
    time.sleep(10.5)


WRONGS: dict[str, Callable[[Shout], None]] = {
    "raise": _raise,
    "fatal": _disk_full,
    "die once": _die_once,
    "die": _die,
    "hang once": _hang_once,
    "slow": _be_slow,
}


def open_and_die_after(received: Path) -> Work:
    """Work that gives all its results, and dies once the last was received, before it ends."""

    def work(jobs: Sequence[PartState], tick: Tick) -> Iterator[PartResult]:
        for job in jobs:
            yield PartResult(job.part, {"ok": 1})
        if jobs[-1].part == 1:
            while not received.exists():
                time.sleep(0.01)
            os._exit(1)

    return work


STAGE = Stage(
    name="shout",
    group="loud",
    version=1,
    reads={"samples": ("prompt",)},
    schema=SCHEMA,
    params=Shout,
    open=open_shout,
    batch_rows=3,
)


def write_samples(workspace: Workspace, parts: int, rows: int = 5) -> None:
    """Parts whose prompts say where they stand: ``part 1 row 0``."""
    for part in range(parts):
        table = pa.Table.from_pylist(
            [
                {"id": f"{part:016x}{n:016x}", "source": "test", "prompt": f"part {part} row {n}"}
                for n in range(rows)
            ],
            schema=SAMPLES,
        )
        with workspace.writing_part("samples", part, SAMPLES, 1000) as writer:
            writer.write(table)
            writer.describe(fingerprint="f", settings="s", inputs={}, extra={})
