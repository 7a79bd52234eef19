"""Behind a proxy: what goes through it, and what is refused all the same."""

from __future__ import annotations

import asyncio
import base64
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from support import pictures

from surd.demo.site import Site
from surd.net.fetch import Fetcher
from surd.net.fetched import Fetched
from surd.net.hosts import Hosts
from surd.net.request import open_session
from surd.stages.download.stage import DownloadParams
from surd.store.workspace import Workspace

Surd = Callable[..., Any]
HOST = "http://pictures.example"
UNKNOWN = ("dns_error", "timeout", "connect_error")
"""What a name that does not exist gives."""
USER = "Basic " + base64.b64encode(b"me:secret").decode()


class Proxy(ThreadingHTTPServer):
    """Takes the site for pictures.example, from who says that he is me."""

    def __init__(self, site: Site) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.site, self.asked = site, list[str]()
        self.address = f"http://me:secret@127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Proxy

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        if self.headers["Proxy-Authorization"] != USER:
            self.send_error(407)
            return
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            answer = direct.open(self.path.replace(HOST, self.server.site.url))
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            body = answer.read()
        self.send_response(answer.status)
        for name in ("Content-Type", "X-Robots-Tag"):
            if name in answer.headers:
                self.send_header(name, answer.headers[name])
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """None but those of the test."""
    for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    with Site(pictures(6)) as site, Proxy(site) as proxy:
        threading.Thread(target=proxy.serve_forever, daemon=True).start()
        yield proxy
        proxy.shutdown()


def get(url: str, **params: Any) -> Fetched:
    limits = DownloadParams(retries=0, total_timeout_s=10, respect_robots=False, **params).limits()

    async def once() -> Fetched:
        async with open_session(limits, contact=None) as session:
            return await Fetcher(session, limits, Hosts(4)).fetch(url)

    return asyncio.run(once())


def picture(base: str) -> str:
    return f"{base}/images/x/{pictures(1)[0].uuid}/original=true/1.jpeg"


def test_pictures_come_through_the_proxy_when_asked_to(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.address)
    found = get(picture(HOST), use_proxy=True)
    assert (found.status, found.body) == ("ok", pictures(1)[0].data)
    assert proxy.asked == [picture(HOST)]
    assert get(picture(HOST)).status in UNKNOWN, "it is not used unasked"


def test_the_proxys_address_is_for_the_proxy_alone(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.address)
    port = proxy.site.url.rpartition(":")[2]
    hosts = ["127.0.0.1", "10.0.0.1", "[::1]", "[fd00::1]", "169.254.1.1", "127.1", "0x7f000001"]
    for host in [*hosts, "2130706433", "localhost"]:
        found = get(picture(f"http://{host}:{port}"), use_proxy=True)
        assert found.status == "blocked_address", host
    monkeypatch.setenv("NO_PROXY", "pictures.example")
    assert get(picture(proxy.site.url), use_proxy=True).status == "blocked_address"
    assert get(picture(HOST), use_proxy=True).status in UNKNOWN
    assert proxy.asked == []
    allowed = get(picture(proxy.site.url), use_proxy=True, allow_private_addresses=["127.0.0.1/32"])
    assert allowed.status == "ok" and proxy.asked == []


def test_a_proxy_that_refuses_is_the_rows_verdict(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", proxy.address.replace("me:secret@", ""))
    found = get(picture(HOST), use_proxy=True)
    assert found.status == "http_error" and found.http_status == 407
    asked = len(proxy.asked)
    assert get(picture(HOST).replace("http:", "https:"), use_proxy=True).status in UNKNOWN
    assert len(proxy.asked) == asked


def test_a_build_collects_through_it_and_tells_nobody_its_password(
    proxy: Proxy, surd: Surd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", proxy.address)
    settings = [
        f"sources.0.base_url={HOST}",
        "sources.0.requests_per_s=1000",
        "download.use_proxy=true",
        "download.retries=0",
        "until=download",
    ]
    sets = [argument for one in settings for argument in ("--set", one)]
    ran = surd("build", "civitai", "-o", tmp_path / "w", *sets)
    assert ran.code == 0, ran.err
    assert any("/api/v1/images" in asked for asked in proxy.asked)
    statuses = Workspace(tmp_path / "w").read("images", 0)["status"].to_pylist()
    assert statuses == ["blocked_address"] * 6, "the site lists them at 127.0.0.1"
    for path in (tmp_path / "w").rglob("*"):
        assert path.is_dir() or b"secret" not in path.read_bytes()


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ("socks5://me:secret@there:1080", "HTTP_PROXY: socks5://there: only http:// and https://"),
        ("http://nowhere.invalid:3128", "HTTP_PROXY: http://nowhere.invalid: "),
    ],
)
def test_a_proxy_that_cannot_be_used_is_one_line(
    surd: Surd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, value: str, line: str
) -> None:
    (tmp_path / "t.csv").write_text("url,prompt\nhttp://pictures.example/a.jpg,a cup\n")
    (tmp_path / "r.yaml").write_text(
        f"name: t\nsources: [{{kind: table, path: {tmp_path / 't.csv'}}}]\n"
        "download: {use_proxy: true}\n"
    )
    monkeypatch.setenv("HTTP_PROXY", value)
    ran = surd("build", tmp_path / "r.yaml", "-o", tmp_path / "w", "--until", "download", "-q")
    assert ran.code == 2
    assert ran.err.startswith(f"surd: {line}") and ran.err.count("\n") == 1
    assert "secret" not in ran.err
