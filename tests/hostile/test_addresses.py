"""Addresses: a name may resolve to what it likes, today this and tomorrow that."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import pytest
from aiohttp import connector
from aiohttp.abc import AbstractResolver
from support import pictures

from surd.demo.site import Site
from surd.net.fetch import Fetcher
from surd.net.fetched import Fetched
from surd.net.hosts import Hosts
from surd.net.request import open_session
from surd.stages.download.stage import DownloadParams

PUBLIC = "93.184.216.34"
"""Nobody is asked: connections to it are refused before they begin."""


class Names(AbstractResolver):
    """Answers a name with the next of its lists of addresses, the last of them for ever."""

    answers: Sequence[Sequence[str]] = ()

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> Any:
        first, *rest = type(self).answers
        type(self).answers = rest or [first]
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": 0,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in first
        ]

    async def close(self) -> None:
        pass


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> type[Names]:
    monkeypatch.setattr(connector, "DefaultResolver", lambda **_: Names())
    connect = asyncio.selector_events.BaseSelectorEventLoop.sock_connect

    async def refuse_public(loop: Any, sock: socket.socket, address: Any) -> None:
        if address[0] == PUBLIC:
            raise ConnectionRefusedError
        await connect(loop, sock, address)

    monkeypatch.setattr(
        asyncio.selector_events.BaseSelectorEventLoop, "sock_connect", refuse_public
    )
    return Names


def get(url: str, times: int = 1, **params: Any) -> list[Fetched]:
    """Fetch it with sessions of their own, each of which asks for the name anew."""
    limits = DownloadParams(retries=0, connect_timeout_s=2, total_timeout_s=5, **params).limits()

    async def once() -> Fetched:
        async with open_session(limits, contact=None) as session:
            return await Fetcher(session, limits, Hosts(4)).fetch(url)

    return [asyncio.run(once()) for _ in range(times)]


def named(site: Site, name: str = "pictures.example") -> str:
    """The address of its first picture, by a name."""
    picture = pictures(1)[0]
    return f"{site.url.replace('127.0.0.1', name)}/images/x/{picture.uuid}/original=true/1.jpeg"


@pytest.mark.parametrize(
    "answers",
    [
        ["127.0.0.1"],
        [PUBLIC, "127.0.0.1"],
        ["::ffff:127.0.0.1"],
        ["10.0.0.1"],
        ["169.254.169.254"],
        ["::1", "fe80::1"],
        ["0.0.0.0"],
    ],
)
def test_a_name_that_means_this_machine_or_its_network_is_not_followed(
    names: type[Names], answers: list[str]
) -> None:
    with Site(pictures(1)) as site:
        names.answers = [answers]
        [found] = get(named(site))
        assert found.status == "blocked_address"
        assert site.image_requests.total() == 0


def test_a_name_that_changes_its_meaning_is_looked_at_each_time(names: type[Names]) -> None:
    """127.0.0.1 stands for the internet here, and 127.0.0.2 for what it must not lead to."""
    public = pictures(1)
    with Site(public) as site:
        port = int(site.url.rsplit(":", 1)[1])
        with Site(public, host="127.0.0.2", port=port) as inside:
            names.answers = [["127.0.0.1"], ["127.0.0.2"]]
            first, second = get(named(site), 2, allow_private_addresses=["127.0.0.1/32"])
            assert (first.status, second.status) == ("ok", "blocked_address")
            assert inside.image_requests.total() == 0


def test_a_redirect_to_a_name_that_means_this_machine_is_not_followed(
    names: type[Names],
) -> None:
    from support_site import Answer, serving

    with Site(pictures(1), host="127.0.0.2") as inside:
        target = named(inside).replace("127.0.0.2", "inside.example")
        with serving(lambda asked: Answer("", 302, {"Location": target})) as site:
            names.answers = [["127.0.0.1"], ["127.0.0.2"]]
            url = site.url.replace("127.0.0.1", "outside.example")
            [found] = get(url + "/x.jpg", allow_private_addresses=["127.0.0.1/32"])
        assert found.status == "blocked_address"
        assert inside.image_requests.total() == 0


def test_a_proxy_of_the_environment_does_not_see_what_is_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would resolve names itself, and no address could be looked at."""
    with Site(pictures(1)) as proxy, Site(pictures(1)) as site:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        [found] = get(named(site, "127.0.0.1"), allow_private_addresses=["127.0.0.0/8"])
        assert found.status == "ok"
        assert site.image_requests.total() == 1
        assert proxy.image_requests.total() == 0
