"""Tensors that are computed once and kept in files, which several processes may write together."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors.torch import save_file

from surd.errors import ModelError, SurdError
from surd.models.weights import why_damaged
from surd.store.storage import Storage


class Team(Protocol):
    """Processes that work on the same run; accelerate's Accelerator is one."""

    @property
    def process_index(self) -> int:
        """Of this one, from 0."""

    @property
    def num_processes(self) -> int:
        """Of the team."""

    def wait_for_everyone(self) -> None:
        """Return when all have come here."""


@dataclass(frozen=True)
class Alone:
    """A team of one."""

    process_index: int = 0
    num_processes: int = 1

    def wait_for_everyone(self) -> None:
        """There is nobody to wait for."""


@contextmanager
def shared_folder(place: Path, team: Team) -> Iterator[Storage]:
    """The folder, for one team at a time; leftovers of killed processes are gone, and everyone of
    the team has come.

    Raises SurdError where it cannot be made.
    """
    storage, main = Storage(str(place)), team.process_index == 0
    with _locked(place) if main else nullcontext():
        if main:
            storage.remove_leftovers(".")
        team.wait_for_everyone()
        yield storage
        team.wait_for_everyone()


@contextmanager
def _locked(place: Path) -> Iterator[None]:
    from filelock import FileLock

    try:
        place.mkdir(parents=True, exist_ok=True)
        lock = FileLock(place / ".lock")
        lock.acquire()
    except OSError as error:
        raise SurdError(
            f"{place}: cannot write here: {error.strerror}; change its permissions, or use "
            "--no-cache"
        ) from error
    try:
        yield
    finally:
        lock.release()


def is_whole(storage: Storage, name: str) -> bool:
    """Whether a part is there, and not damaged."""
    return storage.exists(name) and why_damaged(Path(storage.path(name))) is None


def write_part(
    storage: Storage,
    name: str,
    tensors: Mapping[str, torch.Tensor],
    row_name: Callable[[int], str],
    about: Mapping[str, str],
) -> None:
    """Write tensors ``[n, ...]`` in float16, with `about` as the file's metadata.

    `row_name` says what a row is of. Raises ModelError for values that float16 does not hold.
    """
    half = {key: value.half().contiguous().cpu() for key, value in tensors.items()}
    for key, value in half.items():
        finite = value.isfinite().flatten(1).all(dim=1)  # [n]
        if not finite.all():
            raise ModelError(
                f"{row_name(int(finite.int().argmin()))}: what the diffusion model makes of it "
                f"({key}) holds NaN or exceeds float16; check that the model draws anything, or "
                "rerun with --no-cache, which keeps float32"
            )
    with storage.writing(name) as temporary:
        save_file(half, temporary, dict(about))
