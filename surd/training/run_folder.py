"""What a training leaves in its folder: checkpoints that appear when they are whole, and a log."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from surd.adapter.files import CONFIG_FILE, read_config, save
from surd.errors import ModelError, SurdError, WorkspaceError, one_line
from surd.recipe.train_adapter import TrainAdapterParams
from surd.store.storage import fsync, give_mode, reason_of
from surd.training.logs import LOG_FILE, read_log

log = logging.getLogger("surd")

_CHECKPOINT = "checkpoint-"
_FULL_BYTES = 1 << 20


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Whole checkpoints, by step. Those of other trainers, which call them alike, are none."""
    found = []
    for path in folder.glob(f"{_CHECKPOINT}*"):
        number = path.name.removeprefix(_CHECKPOINT)
        if number.isdecimal() and _is_checkpoint(path):
            found.append((int(number), path))
    return sorted(found)


def _is_checkpoint(path: Path) -> bool:
    try:
        read_config(path)
    except ModelError:
        return False
    return (path / "state").is_dir()


def is_half_checkpoint(path: Path) -> bool:
    """Whether it is what `checkpoint` had not finished writing, or deleting."""
    return path.is_dir() and re.fullmatch(rf"\.{_CHECKPOINT}\d+\.tmp", path.name) is not None


def checkpoint(
    accelerator: Any,
    student: nn.Module,
    params: TrainAdapterParams,
    folder: Path,
    step: int,
    about: Mapping[str, Any],
) -> None:
    """Optimizer, schedule and adapter, with `about` beside its weights.

    It appears when it is whole, and the oldest goes.
    """
    accelerator.wait_for_everyone()
    temporary = folder / f".{_CHECKPOINT}{step}.tmp"
    with writing(folder, f"checkpoint {step}", temporary):
        if accelerator.is_main_process:
            shutil.rmtree(temporary, ignore_errors=True)
            inner = accelerator.unwrap_model(student)
            save(
                inner.adapter,
                temporary,
                projection=inner.projection,
                about={**about, "step": step},
            )
        accelerator.wait_for_everyone()
        accelerator.save_state(str(temporary / "state"))
        accelerator.wait_for_everyone()
        if accelerator.is_main_process:
            _sync(temporary)
    if accelerator.is_main_process:
        final = folder / f"{_CHECKPOINT}{step:06d}"
        if (step, final) in checkpoints(folder):
            remove_checkpoint(final)
        try:
            temporary.rename(final)
        except OSError as error:
            raise SurdError(
                f"{final}: cannot be written: {error.strerror}; move it away and rerun the "
                "same command"
            ) from error
        remove_oldest(folder, params.checkpoints_kept)


@contextmanager
def writing(folder: Path, what: str, temporary: Path | None = None) -> Iterator[None]:
    """Turn what the system and the libraries raise in the block into one line, a SurdError.

    What is half written goes.
    """
    try:
        yield
    except Exception as error:  # of safetensors and torch too, which tell a full disk in their ways
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, SurdError) and not isinstance(error, WorkspaceError):
            raise
        cause = error.__cause__ if isinstance(error, WorkspaceError) else error
        full = shutil.disk_usage(folder).free < _FULL_BYTES  # which torch does not say
        reason = os.strerror(errno.ENOSPC) if full else reason_of(cause or error)
        raise SurdError(
            f"{folder}: cannot write {what}: {reason}; fix that and rerun the same command, which "
            "continues from the checkpoint before"
        ) from error


def remove_oldest(folder: Path, kept: int) -> None:
    """All but the newest `kept` checkpoints."""
    for _, path in checkpoints(folder)[:-kept]:
        remove_checkpoint(path)


def remove_checkpoint(path: Path) -> None:
    """At once: what is left of one when this is killed is a half one."""
    half = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(half, ignore_errors=True)
    path.rename(half)
    shutil.rmtree(half)


def _sync(folder: Path) -> None:
    mode = (folder / CONFIG_FILE).stat().st_mode
    for path in folder.rglob("*"):
        if path.is_file():
            give_mode(path, mode)  # accelerate writes some
            fsync(path)


def take_up(accelerator: Any, folder: Path) -> int:
    """Load the newest checkpoint that can be read; the step it was made after, 0 without any.

    Raises SurdError where there are some, all damaged.
    """
    found = checkpoints(folder)
    for step, path in reversed(found):
        why = _load(accelerator, path)
        if why is None:
            return step
        log.warning("%s: damaged (%s); trying the one before", path, why)
    if found:
        raise SurdError(
            f"{folder}: none of its checkpoints can be read; start over with --resume none"
        )
    return 0


def _load(accelerator: Any, path: Path) -> str | None:
    """What is wrong with a checkpoint, for any of the processes; None where it is loaded."""
    why = None
    try:
        accelerator.load_state(str(path / "state"))
    except Exception as error:  # unpickling raises whatever the file makes it
        why = one_line(error, 100) or type(error).__name__
    good = accelerator.gather(torch.tensor([why is None], device=accelerator.device))
    return None if good.all() else why or "on another process"


def begin_log(folder: Path, first: int, accelerator: Any) -> None:
    """Forget what the log says of steps that will be taken again."""
    if not accelerator.is_main_process:
        return
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / LOG_FILE
    kept = [line for line in read_log(path) if line["step"] <= first] if first else []
    path.write_text("".join(f"{json.dumps(line)}\n" for line in kept), encoding="utf-8")
    if accelerator.log_with:
        accelerator.init_trackers("surd-adapter")


def write_log(
    accelerator: Any, folder: Path, step: int, sums: Mapping[str, float], rate: float
) -> None:
    """Add a step to the log, and to the tracker where there is one: the mean of all processes."""
    if accelerator.num_processes > 1:
        means = accelerator.reduce(torch.tensor([*sums.values()]).to(accelerator.device), "mean")
        sums = dict(zip(sums, means.tolist(), strict=True))
    values = {**sums, "learning_rate": rate}
    accelerator.log(values, step=step)
    if accelerator.is_main_process:
        with writing(folder, LOG_FILE), (folder / LOG_FILE).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **values}) + "\n")
