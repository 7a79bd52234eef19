"""Doing the same with many things of a remote store, some at once: each takes a round trip."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from surd.store.storage import Storage

Item = TypeVar("Item")
Result = TypeVar("Result")

FOOTERS = 32
"""Small things that may be on their way at once."""
TABLES = 4
"""Of the size of a part."""
READERS = max(TABLES, os.cpu_count() or 1)
"""Parts that are read and made less of, each in a thread: Arrow releases Python's lock."""


def ahead(
    storage: Storage, items: Iterable[Item], what: Callable[[Item], Result], most: int
) -> Iterator[Result]:
    """``what`` of each item, in order. Of a local store one after the other, as asked for; else
    ``most`` at once."""
    return map(what, items) if storage.is_local else at_once(items, what, most)


def at_once(items: Iterable[Item], what: Callable[[Item], Result], most: int) -> Iterator[Result]:
    """``what`` of each item, in order; ``most`` of them in threads, and no more are held."""
    with ThreadPoolExecutor(most) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(what, item))
                if len(waiting) == most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
