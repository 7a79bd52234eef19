"""What keeps commands that work on many rows quick."""

from __future__ import annotations

import gc
import sys
from typing import Any

_OBJECTS_BEFORE_GC = 20_000
"""With Python's default, 700, looking for cycles takes a twentieth of a download's processor
time."""


class _Hidden:
    """Finds no pandas, as where it is not installed."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def start_lean() -> None:
    """To be called before a command's work; by commands only, since it is for the whole process.

    pyarrow imports pandas, if it is installed, at the first list it is given: 0.2 s and 50 MB for
    what no command needs. It looks for it once, and then it is hidden.
    """
    gc.set_threshold(_OBJECTS_BEFORE_GC)
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    hidden = _Hidden()
    sys.meta_path.insert(0, hidden)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(hidden)
