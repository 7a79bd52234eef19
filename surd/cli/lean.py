"""What keeps commands that work on many rows quick."""

from __future__ import annotations

import gc
import os
import sys
from typing import Any

_OBJECTS_BEFORE_GC = 20_000
"""With Python's default, 700, looking for cycles takes an eighth of the time of imports, and a
twentieth of a download's processor time."""

_BLAS_PATIENCE = "4"
"""2**n cycles for which OpenBLAS's threads wait busily for work. With its default, 26, they take a
tenth of a second of a core at each start, and a third of the processor time of `dedup`."""


class _Hidden:
    """Finds no pandas, as where it is not installed."""

    def find_spec(self, name: str, *_: Any) -> None:
        if name == "pandas":
            raise ModuleNotFoundError(name=name)


def start_quickly() -> None:
    """To be called before a command's imports."""
    gc.set_threshold(_OBJECTS_BEFORE_GC)
    os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", _BLAS_PATIENCE)  # NumPy's, and of children


def let_go() -> None:
    """To be called at a command's end: Python would look for cycles in all that was imported, which
    takes a tenth of a second."""
    gc.freeze()


def start_lean() -> None:
    """To be called before a command's work; by commands only, since it is for the whole process.

    pyarrow imports pandas, if it is installed, at the first list it is given: 0.2 s and 50 MB for
    what no command needs. It looks for it once, and then it is hidden. Of its memory pools jemalloc
    uses pages again where mimalloc, the default, asks the system for new ones: judging a million
    samples takes an eighth less processor time. An environment that names a pool is obeyed.
    """
    _choose_pool()
    _leave_pandas_out()


def _choose_pool() -> None:
    import pyarrow as pa

    is_named = "ARROW_DEFAULT_MEMORY_POOL" in os.environ
    if not is_named and "jemalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())


def _leave_pandas_out() -> None:
    if "pandas" in sys.modules:
        return
    import pyarrow as pa

    hidden = _Hidden()
    sys.meta_path.insert(0, hidden)
    try:
        pa.array([])
    finally:
        sys.meta_path.remove(hidden)
