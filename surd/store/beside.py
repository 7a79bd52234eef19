"""Where a file or folder is written before it is renamed to its own name."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from surd.store.processes import has_ended, own_name

_END = ".surd-export.tmp"


def temporary_beside(out: Path) -> Path:
    """A hidden name beside ``out``, for this process alone.

    What processes left there that have ended is deleted; two that write to ``out`` at once do not
    touch each other's. Raises OSError where the folder cannot be read.
    """
    start = f".{out.name}."
    for left in out.parent.iterdir() if out.parent.is_dir() else ():
        name = left.name
        if name.startswith(start) and has_ended(name.removeprefix(start).removesuffix(_END)):
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    left.unlink()
    return out.with_name(f"{start}{own_name()}{_END}")
