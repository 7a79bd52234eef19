"""Fetching a url that nobody vouches for: redirects, robots.txt, retries. See docs/security.md."""

from __future__ import annotations

import asyncio
import itertools
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import aiohttp
from yarl import URL

from surd.net.fetched import Fetched, FetchLimits
from surd.net.hosts import BEFORE_ALL, HostFailedError, Hosts, Turn
from surd.net.request import HOST_FAILURES, Refused, ask, checked
from surd.net.robots import Robots, allows, opts_out, parse

_HOST_DOWN_HTTP = frozenset({502, 503, 504, 520, 521, 522, 523, 524, 530})
"""What a proxy answers for a host that does not."""
_NO_ROBOTS = frozenset({"bad_redirect", "too_many_redirects"})
_MAX_ROBOTS_BYTES = 2_000_000
_MAX_ROBOTS = 1000
"""Rules that are remembered; a list of urls may name millions of hosts."""


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Fetches urls through one session, with the limits and manners that hold for all of them."""

    session: aiohttp.ClientSession
    limits: FetchLimits
    hosts: Hosts
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _robots: dict[URL, asyncio.Future[Robots | Fetched]] = field(default_factory=dict)

    async def fetch(self, url: str, order: int = 0) -> Fetched:
        """Get ``url``, trying again what may pass. Never raises for what a server does.

        A host that answers 429, or 503 with Retry-After, is asked nothing more by anyone until the
        time it names, or for ``max_retry_after_s`` where that is longer. Waiting holds no
        connection; of the urls that wait, the one with the lowest ``order`` goes first.
        """
        outcome: Fetched | None = None
        for attempt in itertools.count():
            pause_s = min(2.0**attempt, 30.0) * random.uniform(0.5, 1.5)
            try:
                return await self._follow(url, order, pause_s)
            except HostFailedError as failed:  # what this url itself met says more
                return outcome or Fetched(failed.status, failed.detail)
            except Refused as refused:
                outcome, wait_s = refused.outcome, refused.wait_s
                if refused.is_final or attempt >= self.limits.retries:
                    return outcome
                if (wait_s or 0.0) > self.limits.max_retry_after_s:
                    return outcome
                is_overloaded = refused.is_overloaded
            if not is_overloaded:  # else it waits for its turn
                await self.sleep(pause_s if wait_s is None else wait_s)
        raise AssertionError("unreachable")

    async def _follow(self, url: str, order: int, pause_s: float) -> Fetched:
        """Get ``url`` through its redirects. Raises Refused, HostFailedError.

        A host that asks for time and names none is left alone for ``pause_s``.
        """
        target = checked(url, "bad_url")
        left_s = self.limits.total_timeout_s
        for _ in range(self.limits.max_redirects + 1):
            if self.limits.respect_robots and order != BEFORE_ALL:
                await self._check_robots(target)
            async with self.hosts.turn(target, order) as turn:
                started_s = time.monotonic()
                try:
                    answer = await ask(self.session, target, self.limits, left_s)
                except Refused as refused:
                    self._judge(turn, refused, pause_s)
                    raise
                turn.answered()
                left_s -= time.monotonic() - started_s
            if isinstance(answer, Fetched):
                return answer
            target = answer
        raise Refused("too_many_redirects", f"more than {self.limits.max_redirects} redirects")

    def _judge(self, turn: Turn, refused: Refused, pause_s: float) -> None:
        """Tell what a failed request says of its host."""
        outcome = refused.outcome
        why = f"{outcome.status} ({outcome.detail})"
        if refused.is_overloaded:
            refused.wait_s = pause_s if refused.wait_s is None else refused.wait_s
            turn.failed(why, min(refused.wait_s, self.limits.max_retry_after_s))
        elif outcome.status == "dns_error" and refused.is_final:
            turn.give_up("dns_error", outcome.detail or "")
        elif outcome.status in HOST_FAILURES or outcome.http_status in _HOST_DOWN_HTTP:
            turn.failed(why)
        elif outcome.status != "blocked_address":
            turn.answered()
        refused.is_final |= turn.is_given_up

    async def _check_robots(self, target: URL) -> None:
        """Raises Refused for what the host's robots.txt forbids, or if it cannot be had."""
        origin = target.origin()
        reading = self._robots.get(origin)
        if reading is None:
            if len(self._robots) >= _MAX_ROBOTS:
                self._robots.pop(next(iter(self._robots)))
            reading = asyncio.ensure_future(self._read_robots(origin))
            self._robots[origin] = reading
        robots = reading.result() if reading.done() else await asyncio.shield(reading)
        if isinstance(robots, Fetched):
            raise Refused(robots.status, f"robots.txt: {robots.detail}", is_final=True)
        if not allows(robots, str(target)):
            raise Refused("robots_txt", "robots.txt does not allow it", is_final=True)
        if self.limits.respect_noai and opts_out(robots, str(target)):
            raise Refused("opt_out", "robots.txt: not to be used for training", is_final=True)

    async def _read_robots(self, origin: URL) -> Robots | Fetched:
        """A host's rules, or why none of its urls may be asked for: RFC 9309, section 2.3.1."""
        limits = replace(self.limits, respect_noai=False, max_bytes=_MAX_ROBOTS_BYTES)
        asking = replace(self, limits=limits)
        answer = await asking.fetch(str(origin / "robots.txt"), BEFORE_ALL)
        code = answer.http_status or 0
        if answer.body is not None:
            return parse(answer.body.decode(errors="replace"))
        if (400 <= code < 500 and code != 429) or answer.status in _NO_ROBOTS:
            return Robots()
        if answer.status in HOST_FAILURES or answer.status in ("blocked_address", "host_failed"):
            return answer
        detail = f"{answer.detail}, so nothing may be asked for"
        return replace(answer, status="robots_txt", detail=detail)
