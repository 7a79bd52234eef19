"""Manners towards hosts: so many requests at once, and none for as long as one asks for silence."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from weakref import WeakValueDictionary

from yarl import URL

Key = tuple[str | None, int | None]


class Silence(Exception):  # noqa: N818  (to be kept, not an error)
    """A host is not to be asked for another ``left_s`` seconds."""

    def __init__(self, left_s: float) -> None:
        super().__init__(left_s)
        self.left_s = left_s


class Hosts:
    """What is under way to each host, and which of them are to be left alone."""

    def __init__(self, per_host: int, clock: Callable[[], float] = time.monotonic) -> None:
        """``per_host`` requests may be under way to one host; ``clock`` tells seconds."""
        self._per_host = per_host
        self._clock = clock
        self._places: WeakValueDictionary[Key, asyncio.Semaphore] = WeakValueDictionary()
        self._silent_until: dict[Key, float] = {}

    @contextlib.asynccontextmanager
    async def visit(self, url: URL) -> AsyncIterator[None]:
        """Wait for a place at the host, and hold it while the block runs. Raises Silence."""
        key = (url.host, url.port)
        places = self._places.setdefault(key, asyncio.Semaphore(self._per_host))
        async with places:
            left_s = self._silent_until.get(key, 0.0) - self._clock()
            if left_s > 0:
                raise Silence(left_s)
            self._silent_until.pop(key, None)
            yield

    def silence(self, url: URL, seconds: float) -> None:
        """Leave the host alone for that long, or for as long as it has asked for already."""
        if seconds > 0:
            key = (url.host, url.port)
            until = self._clock() + seconds
            self._silent_until[key] = max(until, self._silent_until.get(key, 0.0))
