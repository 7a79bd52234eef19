"""Does this machine have what surd needs? Every check stands for itself, and none can raise.

Only the command line imports it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from surd.doctor import imports, libraries, surroundings
from surd.doctor.finding import Finding

__all__ = ["Finding", "examine"]

_CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    libraries.python,
    libraries.required,
    libraries.extras,
    libraries.clip_vocabulary,
    imports.models,
    surroundings.disk,
    surroundings.caches,
    surroundings.open_files,
    surroundings.hub,
    surroundings.tokens,
)


def examine() -> Iterator[Finding]:
    """Look at Python, the libraries, the GPU, disk, hub and tokens, whose values are not shown.

    All at once, since some wait: for imports, for the hub. None waits for more than some seconds.
    """
    with ThreadPoolExecutor(len(_CHECKS)) as pool:
        for findings in pool.map(_findings, _CHECKS):
            yield from findings


def _findings(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    try:
        return list(check())
    except Exception as error:  # whatever is wrong with a machine, the other checks go on
        reason = f"{type(error).__name__}: {error}".split("\n", 1)[0]
        name = check.__name__.replace("_", " ")
        return [Finding(name, "BAD", f"could not be checked: {reason}")]
