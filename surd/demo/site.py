"""A loopback web site which answers like Civitai's site API and serves images, faults included.

Tests and the demo read from it what a real site would send: paging that repeats an item,
`meta` only when asked for, both generations of `/models`, and every failure in
:mod:`surd.demo.faults`.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Literal

from aiohttp import web

from surd.demo.civitai_api import LEVELS, CivitaiApi, Json, refuse_unknown
from surd.demo.faults import API_FAULTS, FAULTS, serve
from surd.demo.picture import Picture

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_HOME = """<!doctype html><title>surd demo site</title>
<p>A loopback site for surd's tests and demo. It answers like Civitai's site API at
<code>/api/v1/images</code> and <code>/api/v1/models</code>; its pictures are made up."""


class Site:
    """A site serving `pictures` from a thread of its own: ``with Site(pictures) as site:``.

    `api_faults` maps the index of an API request, counted from 0 over the site's life, to a
    name in API_FAULTS. `url` is where the site is once started; `image_requests` counts the
    requests for each uuid, redirects to it included; `api_requests` holds path and query of
    each API request in order. What `meta_shape` to `page_size_cap` mean stands in CivitaiApi.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        api_faults: Mapping[int, str] | None = None,
        meta_shape: Literal["flat", "nested"] = "flat",
        models_shape: Literal["2023", "2026"] = "2023",
        numeric_cursor: bool = False,
        repeat_cursor_item: bool = True,
        page_size_cap: int = 200,
    ) -> None:
        self.url = ""
        self.image_requests: Counter[str] = Counter()
        self.api_requests: list[str] = []
        self._by_uuid = {picture.uuid: picture for picture in pictures}
        self._host, self._port = host, port
        self._api_faults = dict(api_faults or {})
        self._api = CivitaiApi(
            pictures=list(pictures),
            meta_shape=meta_shape,
            models_shape=models_shape,
            numeric_cursor=numeric_cursor,
            repeat_cursor_item=repeat_cursor_item,
            page_size_cap=page_size_cap,
        )
        self._thread: threading.Thread | None = None
        refuse_unknown("fault", {p.fault for p in pictures if p.fault is not None}, FAULTS)
        refuse_unknown("nsfw_level", {p.nsfw_level for p in pictures}, LEVELS)
        refuse_unknown("api_faults", set(self._api_faults.values()), API_FAULTS)

    def show(self, pictures: Sequence[Picture]) -> None:
        """List and serve these from the next request on, as a site that goes on living."""
        self._api.pictures[:] = pictures
        self._by_uuid = {picture.uuid: picture for picture in pictures}

    def start(self) -> Site:
        """Serve until `stop`; OSError when the port is taken."""
        if self._thread is not None:
            raise RuntimeError(f"the site is already running at {self.url}")
        listening = socket.create_server((self._host, self._port))
        self.url = f"http://{self._host}:{listening.getsockname()[1]}"
        self._api = replace(self._api, site_url=self.url)
        running: Future[Callable[[], object]] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(listening, running)),
            name="surd-demo-site",
            daemon=True,
        )
        self._thread.start()
        self._halt = running.result()
        return self

    def stop(self) -> None:
        """Close the port and every connection, within a second whatever handlers wait for."""
        if self._thread is not None:
            self._halt()
            self._thread.join()
            self._thread = None

    def __enter__(self) -> Site:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def _serve(self, listening: socket.socket, running: Future[Callable[[], object]]) -> None:
        """Serve until the function given to `running` is called from another thread."""
        loop, stopping = asyncio.get_running_loop(), asyncio.Event()
        running.set_result(partial(loop.call_soon_threadsafe, stopping.set))
        runner = web.AppRunner(
            self._application(), access_log=None, handler_cancellation=True, shutdown_timeout=0.1
        )
        await runner.setup()
        await web.SockSite(runner, listening).start()
        await stopping.wait()
        with suppress(NotImplementedError):  # Windows
            loop.remove_reader(listening)
        await asyncio.sleep(0.01)  # what was just accepted becomes a connection
        _abort_connections(runner)
        await runner.cleanup()

    def _application(self) -> web.Application:
        image = "/images/{account}/{uuid}/{size:[^/]*(?:width=|original=true)[^/]*}/{name}"
        application = web.Application()
        for path, handler in {
            "/": _page,
            "/robots.txt": _page,
            "/api/v1/images": self._answer(self._api.images),
            "/api/v1/models": self._answer(self._api.models),
            image: self._image,
        }.items():
            application.router.add_get(path, handler, allow_head=False)
        return application

    def _answer(self, make: Callable[[web.Request], Json]) -> Handler:
        """What `make` returns, as JSON; 400 for its ValueError, a fault where one is due."""

        async def handle(request: web.Request) -> web.StreamResponse:
            fault = self._api_faults.get(len(self.api_requests))
            self.api_requests.append(request.path_qs)
            if fault is not None:
                return await API_FAULTS[fault](request)
            try:
                return web.json_response(make(request))
            except ValueError as error:
                return web.json_response({"error": str(error)}, status=400)

        return handle

    async def _image(self, request: web.Request) -> web.StreamResponse:
        picture = self._by_uuid.get(request.match_info["uuid"])
        if picture is None:
            raise web.HTTPNotFound
        attempt = self.image_requests[picture.uuid]
        self.image_requests[picture.uuid] += 1
        healthy = picture.fault is None or "direct" in request.query
        return await (serve if healthy else FAULTS[picture.fault or ""])(request, picture, attempt)


def _abort_connections(runner: web.AppRunner) -> None:
    """Drop every connection, unsent bytes too; aiohttp then cancels what serves them."""
    for connection in runner.server.connections if runner.server else []:
        if connection.transport is not None:
            connection.transport.abort()


async def _page(request: web.Request) -> web.StreamResponse:
    if request.path == "/robots.txt":
        return web.Response(text="User-agent: *\nDisallow: /private/\n")
    return web.Response(text=_HOME, content_type="text/html")
