"""Who gets a turn, who waits, and which hosts are given up."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from yarl import URL

from surd.net.hosts import BEFORE_ALL, HostFailedError, Hosts, Turn

A, B = URL("http://a.example/1"), URL("http://b.example/1")


class World:
    """Hosts whose time passes only when everybody waits."""

    def __init__(self, per_host: int = 2, connections: int = 4, **options: Any) -> None:
        self.now_s = 0.0
        self.timers: list[tuple[float, Callable[[], None]]] = []
        self.hosts = Hosts(
            per_host, connections, clock=lambda: self.now_s, later=self._later, **options
        )

    def _later(self, seconds: float, wake: Callable[[], None]) -> None:
        self.timers.append((self.now_s + seconds, wake))

    async def settle(self) -> None:
        """Let everybody come as far as they get now."""
        for _ in range(50):
            await asyncio.sleep(0)

    async def pass_by(self) -> None:
        """Go to the next moment at which a host may be asked again."""
        await self.settle()
        self.timers.sort(key=lambda timer: timer[0])
        until_s, wake = self.timers.pop(0)
        self.now_s = max(self.now_s, until_s)
        wake()
        await self.settle()


def play(scene: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(scene(), 10))  # type: ignore[arg-type]


class Visits:
    """Requests that last until they are told to end."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.turns: dict[str, Turn] = {}
        self.outcomes: dict[str, str] = {}
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, name: str, url: URL | None, order: int = 0) -> asyncio.Task[None]:
        task = asyncio.ensure_future(self._visit(name, url, order))
        self._tasks.add(task)
        return task

    async def _visit(self, name: str, url: URL | None, order: int) -> None:
        try:
            async with self.world.hosts.turn(url, order) as turn:
                self.turns[name] = turn
                self._ends[name] = asyncio.Event()
                await self._ends[name].wait()
            self.outcomes[name] = "done"
        except HostFailedError as failed:
            self.outcomes[name] = f"{failed.status}: {failed.detail}"

    async def end(
        self, name: str, *, failed: str | None = None, wait_s: float | None = None
    ) -> None:
        turn = self.turns.pop(name)
        if failed is None:
            turn.answered()
        else:
            turn.failed(failed, wait_s)
        self._ends[name].set()
        await self.world.settle()

    @property
    def under_way(self) -> list[str]:
        return sorted(self.turns)


def test_a_host_gets_so_many_requests_at_once_and_all_hosts_together_so_many() -> None:
    async def scene() -> None:
        visits = Visits(World(per_host=2, connections=3))
        for number in range(4):
            visits.start(f"a{number}", A, number)
            visits.start(f"b{number}", B, number)
        await visits.world.settle()
        assert visits.under_way == ["a0", "a1", "b0"]
        await visits.end("a0")
        assert visits.under_way == ["a1", "b0", "b1"]

    play(scene)


def test_who_waits_for_a_full_host_takes_up_no_connection() -> None:
    async def scene() -> None:
        visits = Visits(World(per_host=1, connections=2))
        for number in range(100):
            visits.start(f"a{number}", A, number)
        visits.start("b", B, 100)
        await visits.world.settle()
        assert visits.under_way == ["a0", "b"]

    play(scene)


def test_the_oldest_row_goes_first_whenever_it_came() -> None:
    async def scene() -> None:
        visits = Visits(World(per_host=1, connections=1))
        for order in (5, 9, 7, 3):
            visits.start(str(order), A if order % 4 == 1 else B, order)
        await visits.world.settle()
        came = []
        for _ in range(4):
            came += visits.under_way
            await visits.end(visits.under_way[0])
        assert came == ["5", "3", "7", "9"], "the first was under way already"

    play(scene)


def test_without_room_only_the_row_that_all_wait_for_begins() -> None:
    async def scene() -> None:
        room = {"for": {2, BEFORE_ALL}}
        world = World(has_room=lambda order: order in room["for"])
        visits = Visits(world)
        for order in (3, 2, BEFORE_ALL):
            visits.start(str(order), A, order)
        await world.settle()
        assert visits.under_way == ["-1", "2"]
        await visits.end("2")
        assert visits.under_way == ["-1"]
        room["for"].add(3)
        world.hosts.deal()
        await world.settle()
        assert visits.under_way == ["-1", "3"]

    play(scene)


def test_an_answer_from_before_a_pause_does_not_end_it() -> None:
    async def scene() -> None:
        world = World(per_host=3)
        visits = Visits(world)
        for number in range(2):
            visits.start(f"a{number}", A, number)
        await world.settle()
        await visits.end("a0", failed="HTTP 429", wait_s=60.0)
        await visits.end("a1")
        for number in range(2, 4):
            visits.start(f"a{number}", A, number)
        await world.settle()
        assert visits.under_way == [], "nobody was waiting, and yet it holds"
        await world.pass_by()
        assert (world.now_s, visits.under_way) == (60.0, ["a2"]), "one request at first"
        await visits.end("a2")
        visits.start("a4", A, 4)
        await world.settle()
        assert visits.under_way == ["a3", "a4"]

    play(scene)


def test_a_waiting_request_that_is_cancelled_leaves_its_turn_to_others() -> None:
    async def scene() -> None:
        visits = Visits(World(per_host=1, connections=1))
        visits.start("first", A, 0)
        await visits.world.settle()
        cancelled = visits.start("cancelled", A, 1)
        visits.start("third", A, 2)
        await visits.world.settle()
        cancelled.cancel()
        await visits.end("first")
        assert visits.under_way == ["third"]

    play(scene)


def test_a_request_cancelled_as_it_gets_its_turn_gives_it_back() -> None:
    async def scene() -> None:
        visits = Visits(World(per_host=1, connections=1))
        visits.start("first", A, 0)
        await visits.world.settle()
        cancelled = visits.start("cancelled", A, 1)
        visits.start("third", A, 2)
        await visits.world.settle()
        visits.turns.pop("first").answered()
        visits._ends["first"].set()
        for _ in range(50):
            await asyncio.sleep(0)
            if not visits.world.hosts._hosts[("a.example", 80)].waiting[0][2].done():
                break
        cancelled.cancel()
        await visits.world.settle()
        assert visits.under_way == ["third"]

    play(scene)


def test_silence_is_kept_then_broken_by_one_request_and_ended_by_its_answer() -> None:
    async def scene() -> None:
        visits = Visits(World(per_host=4, connections=8))
        for number in range(8):
            visits.start(f"a{number}", A, number)
        visits.start("b", B, 9)
        await visits.world.settle()
        await visits.end("a0", failed="429", wait_s=60)
        for name in ("a1", "a2", "a3"):
            await visits.end(name, failed="429", wait_s=60)
        assert visits.under_way == ["b"], "another host is asked meanwhile"
        await visits.world.pass_by()
        assert visits.world.now_s == 60
        assert visits.under_way == ["a4", "b"]
        await visits.end("a4")
        assert visits.under_way == ["a5", "a6", "a7", "b"]

    play(scene)


def fail_until_given_up(**options: Any) -> tuple[float, Visits]:
    """Forty requests to a host that fails at once; seconds until it is given up."""
    visits = Visits(World(per_host=16, connections=64, **options))

    async def scene() -> None:
        for number in range(40):
            visits.start(f"a{number:02}", A, number)
        await visits.world.settle()
        while len(visits.outcomes) < 40:
            for name in visits.under_way:
                await visits.end(name, failed="timeout (no answer in time)")
            if visits.world.timers:
                await visits.world.pass_by()

    play(scene)
    return visits.world.now_s, visits


def test_a_host_that_goes_on_failing_is_given_up_and_all_who_wait_are_told() -> None:
    seconds, visits = fail_until_given_up()
    assert seconds == 15, "asked again after 1, 3, 7 and 15 seconds"
    done = [name for name, outcome in visits.outcomes.items() if outcome == "done"]
    assert done == [f"a{number:02}" for number in range(20)]
    told = {outcome for outcome in visits.outcomes.values() if outcome != "done"}
    assert told == {
        "host_failed: not asked, because its host failed 20 times in a row, the last time: "
        "timeout (no answer in time)"
    }


def test_who_comes_after_a_host_was_given_up_is_told_at_once() -> None:
    _, visits = fail_until_given_up()
    with pytest.raises(HostFailedError, match="20 times in a row"):
        play(lambda: visits.world.hosts.turn(A).__aenter__())


def test_more_patience_asks_for_longer_and_without_end_no_host_is_given_up() -> None:
    assert fail_until_given_up(patience_s=100)[0] > 90
    _, visits = fail_until_given_up(patience_s=None)
    assert set(visits.outcomes.values()) == {"done"}


def test_one_good_answer_makes_good_for_what_came_before() -> None:
    async def scene() -> None:
        world = World(per_host=1, connections=1)
        visits = Visits(world)
        for number in range(60):
            visits.start(str(number), A, number)
        await world.settle()
        for number in range(60):
            await visits.end(visits.under_way[0], failed=None if number % 9 == 8 else "timeout")
        assert not world.timers and set(visits.outcomes.values()) == {"done"}

    play(scene)


def test_a_host_that_asks_for_time_again_and_again_is_given_up() -> None:
    async def scene() -> None:
        world = World(per_host=1, connections=1)
        visits = Visits(world)
        for number in range(10):
            visits.start(str(number), A, number)
        await world.settle()
        for _ in range(4):
            await visits.end(visits.under_way[0], failed="429", wait_s=20)
            if world.timers:
                await world.pass_by()
        assert len(visits.outcomes) == 10 and world.now_s == 60

    play(scene)


def test_hosts_that_work_are_not_remembered() -> None:
    async def scene() -> None:
        world = World()
        for number in range(100):
            async with world.hosts.turn(URL(f"http://{number}.example")) as turn:
                turn.answered()
        assert not world.hosts._hosts

    play(scene)


def test_what_all_rows_of_a_host_wait_for_is_tried_twice() -> None:
    async def scene() -> None:
        world = World()
        visits = Visits(world)
        for name in ("first", "second"):
            visits.start(name, A, BEFORE_ALL)
            await world.settle()
            world.now_s += 10
            await visits.end(name, failed="timeout")
            if world.timers:
                await world.pass_by()
        with pytest.raises(HostFailedError, match="failed 2 times"):
            await world.hosts.turn(A).__aenter__()

    play(scene)
