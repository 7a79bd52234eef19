"""Doing the same with many things of a remote store, some at once: each takes a round trip."""

from __future__ import annotations

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


def ahead(
    storage: Storage, items: Iterable[Item], what: Callable[[Item], Result], at_once: int
) -> Iterator[Result]:
    """``what`` of each item, in order. Of a local store one after the other, as asked for; else
    ``at_once`` in threads, and no more are held than that."""
    if storage.is_local:
        yield from map(what, items)
        return
    with ThreadPoolExecutor(at_once) as pool:
        waiting: deque[Future[Result]] = deque()
        try:
            for item in items:
                waiting.append(pool.submit(what, item))
                if len(waiting) == at_once:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
