"""Who may ask which host, and when.

A request waits for its turn: until a connection is free, its host has a place and asks for no
silence. Waiting takes up neither. The oldest row goes first.

A host that fails has fewer places. One that fails often in a row is doubted: it is left alone for a
moment, then asked once. If it goes on failing it is given up, and all who wait for it are told.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush

from yarl import URL

Key = tuple[str | None, int | None]

BEFORE_ALL = -1
"""The order of a request that rows of any age wait for; it needs no room."""
_HERE: Key = (None, None)
_MANY_FAILURES = 10
"""In a row. A host of which every third url fails gets here once in 60,000 urls."""
_MANY_PAUSES = 3
_MAX_PAUSE_S = 30.0


class HostFailedError(Exception):
    """A host was given up. ``status`` is one of ``schema.IMAGE_STATUSES``."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(status, detail)
        self.status, self.detail = status, detail

    def __str__(self) -> str:
        return self.detail


@dataclass(slots=True)
class _Host:
    busy: int = 0
    waiting: list[tuple[int, int, asyncio.Future[None]]] = field(default_factory=list)
    """A heap of order, number and what wakes the one who waits."""
    offered: int | None = None
    """The order by which it is among those that are ready."""
    silent_until: float = 0.0
    failures: int = 0
    """In a row, like ``pauses`` and ``failing_since``."""
    pauses: int = 0
    failing_since: float = 0.0
    is_doubted: bool = False
    given_up: tuple[str, str] | None = None
    """Status and detail of all its urls."""


class Hosts:
    """What is under way to each host, and which of them are to be left alone."""

    def __init__(
        self,
        per_host: int,
        connections: int = 64,
        *,
        patience_s: float | None = 15.0,
        has_room: Callable[[int], bool] = lambda order: True,
        clock: Callable[[], float] = time.monotonic,
        later: Callable[[float, Callable[[], None]], object] | None = None,
    ) -> None:
        """Of ``connections`` requests at a time, ``per_host`` may be to one host.

        A host may fail for ``patience_s`` before it is given up; None never gives one up.
        ``has_room`` tells whether a row of some order may begin. ``clock`` tells seconds, and
        ``later`` calls back after some.
        """
        self._per_host = per_host
        self._free = connections
        self._patience_s = patience_s
        self._has_room = has_room
        self._clock = clock
        self._later = later or (lambda *call: asyncio.get_running_loop().call_later(*call))
        self._hosts: defaultdict[Key, _Host] = defaultdict(_Host)
        self._ready: list[tuple[int, int, Key]] = []
        """A heap of hosts that may be asked, by the oldest who waits; some may be no more."""
        self._numbers = itertools.count()

    @contextlib.asynccontextmanager
    async def turn(self, url: URL | None, order: int = 0) -> AsyncIterator[Turn]:
        """Wait for a turn, and hold it while the block runs; ``url`` is None for this machine.

        Raises HostFailedError if the host is given up, also while waiting.
        """
        key = _HERE if url is None else (url.host, url.port)
        host = self._hosts[key]
        if host.given_up is not None:
            raise HostFailedError(*host.given_up)
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heappush(host.waiting, (order, next(self._numbers), woken))
        self._offer(key)
        self.deal()
        try:
            await woken
        except asyncio.CancelledError:
            if not woken.cancelled() and woken.exception() is None:
                self._end(key)
            raise
        try:
            yield Turn(self, key, order, self._clock())
        finally:
            self._end(key)

    def deal(self) -> None:
        """Give out turns while there are connections, hosts to ask, and room."""
        while self._free and self._ready:
            order, _, key = self._ready[0]
            host = self._hosts[key]
            is_offered = host.offered == order
            if is_offered and self._may_be_asked(key) and host.waiting[0][0] == order:
                if not self._has_room(order):
                    return
                host.busy += 1
                self._free -= 1
                heappop(host.waiting)[2].set_result(None)
            heappop(self._ready)
            if is_offered:
                host.offered = None
                self._offer(key)

    def _offer(self, key: Key) -> None:
        """Put the host among those that are ready, if it is."""
        host = self._hosts[key]
        if self._may_be_asked(key) and host.offered != host.waiting[0][0]:
            host.offered = host.waiting[0][0]
            heappush(self._ready, (host.offered, next(self._numbers), key))

    def _may_be_asked(self, key: Key) -> bool:
        """Whether someone waits for the host whom only connections and room can keep."""
        host = self._hosts[key]
        while host.waiting and host.waiting[0][2].done():  # cancelled
            heappop(host.waiting)
        places = 1 if host.is_doubted else max(1, self._per_host - host.failures)
        is_free = key == _HERE or host.busy < places
        return bool(host.waiting) and is_free and host.silent_until <= self._clock()

    def _end(self, key: Key) -> None:
        host = self._hosts[key]
        host.busy -= 1
        self._free += 1
        self._offer(key)
        is_idle = not (host.busy or host.waiting)
        if is_idle and not (host.failures or host.is_doubted or host.given_up):
            del self._hosts[key]  # a list may name millions
        self.deal()

    def answered(self, key: Key, since: float) -> None:
        """The host works. A request that began before a pause does not end it."""
        host = self._hosts[key]
        host.failures = host.pauses = 0
        host.is_doubted &= since < host.silent_until
        self._offer(key)

    def failed(self, key: Key, order: int, since: float, why: str, wait_s: float | None) -> None:
        """A request that began at ``since`` failed; its host may have asked for ``wait_s``."""
        host, now = self._hosts[key], self._clock()
        host.failing_since = min(since, host.failing_since) if host.failures else since
        host.failures += 1
        many = host.failures >= _MANY_FAILURES or host.pauses >= _MANY_PAUSES or order == BEFORE_ALL
        if host.is_doubted and since < host.silent_until:  # it began before the pause
            if wait_s is not None:
                self._silence(key, wait_s)
        elif host.is_doubted and many and self._is_out_of_patience(now - host.failing_since):
            times = f"failed {host.failures} times in a row, the last time: {why}"
            self.give_up(key, "host_failed", f"not asked, because its host {times}")
        elif wait_s is not None or many:
            pause_s = min(2.0**host.pauses, _MAX_PAUSE_S) if wait_s is None else wait_s
            host.pauses += 1
            host.is_doubted = True
            self._silence(key, pause_s)

    def _is_out_of_patience(self, failing_s: float) -> bool:
        return self._patience_s is not None and failing_s >= self._patience_s

    def _silence(self, key: Key, seconds: float) -> None:
        host = self._hosts[key]
        host.silent_until = max(host.silent_until, self._clock() + seconds)
        self._wake(key)

    def _wake(self, key: Key) -> None:
        """Go on with a host when its silence has ended."""
        left_s = self._hosts[key].silent_until - self._clock()
        if left_s > 0:
            self._later(left_s, lambda: self._wake(key))
        else:
            self._offer(key)
            self.deal()

    def is_given_up(self, key: Key) -> bool:
        """Whether the host will be asked nothing more."""
        return self._hosts[key].given_up is not None

    def give_up(self, key: Key, status: str, detail: str) -> None:
        """Ask the host nothing more, and tell all who wait for it."""
        host = self._hosts[key]
        host.given_up = status, detail
        for *_, woken in host.waiting:
            if not woken.done():
                woken.set_exception(HostFailedError(status, detail))
        host.waiting.clear()


@dataclass(frozen=True, slots=True)
class Turn:
    """A request under way."""

    _hosts: Hosts
    _key: Key
    _order: int
    _since: float

    @property
    def is_given_up(self) -> bool:
        """Whether the host will be asked nothing more."""
        return self._hosts.is_given_up(self._key)

    def answered(self) -> None:
        """The host works, whatever it said."""
        self._hosts.answered(self._key, self._since)

    def failed(self, why: str, wait_s: float | None = None) -> None:
        """The host does not work, or asks for ``wait_s`` seconds of silence."""
        self._hosts.failed(self._key, self._order, self._since, why, wait_s)

    def give_up(self, status: str, detail: str) -> None:
        """The host can answer none of its urls."""
        self._hosts.give_up(self._key, status, detail)
