"""A loopback web site which answers like Civitai's site API and serves images, faults included.

Tests and the demo read from it what a real site would send: paging that repeats an item,
`meta` only when asked for, both generations of `/models`, and every failure in
:mod:`surd.demo.faults`.
"""

from __future__ import annotations

import asyncio
import math
import socket
import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Literal

from aiohttp import web

from surd.demo.faults import API_FAULTS, FAULTS, serve

Json = dict[str, object]
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_LEVELS = ("None", "Soft", "Mature", "X")
_EXTENSIONS = {"image/png": "png", "image/webp": "webp", "image/gif": "gif", "video/mp4": "mp4"}
_BLACK_BLURHASH = "L00000fQfQfQfQfQfQfQfQfQfQfQ"
_HOME = """<!doctype html><title>surd demo site</title>
<p>A loopback site for surd's tests and demo. It answers like Civitai's site API at
<code>/api/v1/images</code> and <code>/api/v1/models</code>; its pictures are made up."""


@dataclass(frozen=True)
class Picture:
    """An image to list and serve. Pictures with the same uuid are served as the last of them."""

    id: int
    uuid: str
    data: bytes
    mime: str = "image/jpeg"
    width: int = 0
    height: int = 0
    prompt: str | None = None
    negative_prompt: str | None = None
    username: str = "painter"
    nsfw_level: str = "None"  # None | Soft | Mature | X
    model_id: int = 1
    version_id: int = 1
    created_at: str = "2026-01-01T00:00:00.000Z"
    meta: Mapping[str, object] = field(default_factory=dict)  # seed, steps, sampler, cfgScale, ...
    fault: str | None = None  # a name in FAULTS
    type: str = "image"  # image | video
    url: str | None = None  # listed in place of the true address


class Site:
    """A site serving `pictures` from a thread of its own: ``with Site(pictures) as site:``.

    `api_faults` maps the index of an API request, counted from 0 over the site's life, to a
    name in API_FAULTS. `url` is where the site is once started; `image_requests` counts the
    requests for each uuid, redirects to it included; `api_requests` holds path and query of
    each API request in order.
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
        self._pictures = list(pictures)
        self._by_uuid = {picture.uuid: picture for picture in pictures}
        self._host, self._port = host, port
        self._api_faults = dict(api_faults or {})
        self._meta_shape, self._models_shape = meta_shape, models_shape
        self._numeric_cursor, self._repeat_cursor_item = numeric_cursor, repeat_cursor_item
        self._page_size_cap = page_size_cap
        self._thread: threading.Thread | None = None
        _refuse_unknown("fault", {p.fault for p in pictures if p.fault is not None}, FAULTS)
        _refuse_unknown("nsfw_level", {p.nsfw_level for p in pictures}, _LEVELS)
        _refuse_unknown("api_faults", set(self._api_faults.values()), API_FAULTS)

    def start(self) -> Site:
        """Serve until `stop`; OSError when the port is taken."""
        if self._thread is not None:
            raise RuntimeError(f"the site already runs at {self.url}")
        listening = socket.create_server((self._host, self._port))
        self.url = f"http://{self._host}:{listening.getsockname()[1]}"
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
            "/api/v1/images": self._api(self._images),
            "/api/v1/models": self._api(self._models),
            image: self._image,
        }.items():
            application.router.add_get(path, handler, allow_head=False)
        return application

    def _api(self, answer: Callable[[web.Request], Json]) -> Handler:
        """`answer` as JSON, unless this request is one to fail; 400 when it raises ValueError."""

        async def handle(request: web.Request) -> web.StreamResponse:
            fault = self._api_faults.get(len(self.api_requests))
            self.api_requests.append(request.path_qs)
            if fault is not None:
                return await API_FAULTS[fault](request)
            try:
                return web.json_response(answer(request))
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

    def _images(self, request: web.Request) -> Json:
        """``GET /api/v1/images``, paged by cursor."""
        found = _chosen(self._pictures, request.query)
        limit = _whole(request.query, "limit", 50, most=self._page_size_cap)
        start = _position(request.query.get("cursor", "0"))
        with_meta = request.query.get("withMeta", "").lower() == "true"
        items = [self._image_item(picture, with_meta) for picture in found[start : start + limit]]
        if start + limit >= len(found):
            return {"items": items, "metadata": {}}
        following = start + limit - int(self._repeat_cursor_item and limit > 1)
        cursor = following if self._numeric_cursor else f"{following}|{found[following].id}"
        # As in reality the link forgets withMeta.
        link = self._link(request, without="withMeta", cursor=cursor)
        return {"items": items, "metadata": {"nextCursor": cursor, "nextPage": link}}

    def _models(self, request: web.Request) -> Json:
        """``GET /api/v1/models``, paged by number in 2023 and by cursor in 2026."""
        found = _by_model(_chosen(self._pictures, request.query))
        limit = _whole(request.query, "limit", 20, most=min(100, self._page_size_cap))
        if self._models_shape == "2023":
            page = _whole(request.query, "page", 1)
            start, metadata = (page - 1) * limit, _page_numbers(page, limit, len(found))
            if page < math.ceil(len(found) / limit):
                metadata["nextPage"] = self._link(request, page=page + 1)
            if page > 1:
                metadata["prevPage"] = self._link(request, page=page - 1)
        else:
            start, metadata = _position(request.query.get("cursor", "0")), {}
            if start + limit < len(found):
                cursor = f"{start + limit}|{found[start + limit][0].model_id}"
                metadata = {"nextCursor": cursor, "nextPage": self._link(request, cursor=cursor)}
        items = [self._model_item(pictures) for pictures in found[start : start + limit]]
        return {"items": items, "metadata": metadata}

    def _link(self, request: web.Request, *, without: str = "", **changed: str | int) -> str:
        """The request's own address with some parameters changed."""
        kept = {name: value for name, value in request.query.items() if name != without}
        return self.url + str(request.rel_url.with_query({**kept, **changed}))

    def _image_url(self, picture: Picture) -> str:
        if picture.url is not None:
            return picture.url
        name = f"{picture.id}.{_EXTENSIONS.get(picture.mime, 'jpeg')}"
        return f"{self.url}/images/xG1nkqKTMzGDvpLrqFT7WA/{picture.uuid}/width=450/{name}"

    def _image_item(self, picture: Picture, with_meta: bool) -> Json:
        """An item of ``/images``."""
        meta: Json | None = _meta(picture)
        if self._meta_shape == "nested":
            meta = {"id": picture.id, "meta": meta}
        return {
            **_common(picture, self._image_url(picture)),
            "nsfw": picture.nsfw_level != "None",
            "nsfwLevel": picture.nsfw_level,
            "browsingLevel": _browsing_level(picture),
            "createdAt": picture.created_at,
            "postId": picture.id,
            "username": picture.username,
            "baseModel": "SD 1.5",
            "modelVersionIds": [picture.version_id],
            "stats": {"likeCount": picture.id % 50, "heartCount": picture.id % 20},
            "meta": meta if with_meta else None,
        }

    def _model_item(self, pictures: list[Picture]) -> Json:
        """An item of ``/models``; creator and dates are those of the model's first picture."""
        first, old = pictures[0], self._models_shape == "2023"
        uses = ("None", "Image", "Rent", "Sell")[: first.model_id % 4 + 1]
        versions: dict[int, list[Picture]] = {}
        for picture in pictures:
            versions.setdefault(picture.version_id, []).append(picture)
        return {
            "id": first.model_id,
            "name": f"demo model {first.model_id}",
            "type": "Checkpoint",
            "nsfw": any(picture.nsfw_level != "None" for picture in pictures),
            "allowNoCredit": first.model_id % 2 == 0,
            "allowCommercialUse": uses[-1] if old else list(uses[1:]),
            "allowDerivatives": True,
            "allowDifferentLicense": first.model_id % 3 == 0,
            "stats": {"downloadCount": 10 * len(pictures), "ratingCount": 3, "rating": 4.9},
            "creator": {"username": first.username, "image": None},
            "tags": ["base model", "style"],
            "modelVersions": [self._version_item(group) for group in versions.values()],
        }

    def _version_item(self, pictures: list[Picture]) -> Json:
        first = pictures[0]
        return {
            "id": first.version_id,
            "modelId": first.model_id,
            "name": f"v{first.version_id}",
            "createdAt": first.created_at,
            "baseModel": "SD 1.5",
            "baseModelType": "Standard",
            "trainedWords": [],
            "files": [],
            "images": [self._version_image(picture) for picture in pictures],
        }

    def _version_image(self, picture: Picture) -> Json:
        """An image inside ``/models``: with its `meta` in 2023, told of it only in 2026."""
        common = _common(picture, self._image_url(picture))
        if self._models_shape == "2023":
            return {**common, "nsfw": picture.nsfw_level, "meta": _meta(picture)}
        has_prompt = picture.prompt is not None
        flags = {"hasMeta": _meta(picture) is not None, "hasPositivePrompt": has_prompt}
        return {**common, "nsfwLevel": _browsing_level(picture), **flags}


def _abort_connections(runner: web.AppRunner) -> None:
    """Drop every connection, unsent bytes too; aiohttp then cancels what serves them."""
    for connection in runner.server.connections if runner.server else []:
        if connection.transport is not None:
            connection.transport.abort()


async def _page(request: web.Request) -> web.StreamResponse:
    if request.path == "/robots.txt":
        return web.Response(text="User-agent: *\nDisallow: /private/\n")
    return web.Response(text=_HOME, content_type="text/html")


def _refuse_unknown(what: str, names: Collection[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            raise ValueError(f"{what}: {name!r} is not one of {', '.join(known)}")


def _whole(query: Mapping[str, str], name: str, default: int, *, most: int = 10**9) -> int:
    """A whole number from the query, brought into 1..most."""
    return max(1, min(most, int(query.get(name, default))))


def _page_numbers(page: int, limit: int, total: int) -> Json:
    last = math.ceil(total / limit)
    return {"totalItems": total, "currentPage": page, "pageSize": limit, "totalPages": last}


def _position(cursor: str) -> int:
    """Where a page starts: the number before the bar of ``120|4711``."""
    return max(0, int(cursor.partition("|")[0]))


def _chosen(pictures: list[Picture], query: Mapping[str, str]) -> list[Picture]:
    """Pictures that pass the query; a level lets through itself and milder ones."""
    asked = query.get("nsfw", "true")
    level = {"true": "X", "false": "None"}.get(asked.lower(), asked)
    _refuse_unknown("nsfw", [level], _LEVELS)
    return [
        picture
        for picture in pictures
        if query.get("modelId", str(picture.model_id)) == str(picture.model_id)
        and query.get("username", picture.username) == picture.username
        and _LEVELS.index(picture.nsfw_level) <= _LEVELS.index(level)
    ]


def _by_model(pictures: list[Picture]) -> list[list[Picture]]:
    models: dict[int, list[Picture]] = {}
    for picture in pictures:
        models.setdefault(picture.model_id, []).append(picture)
    return list(models.values())


def _meta(picture: Picture) -> Json | None:
    """Generation settings under Civitai's names; None when the picture has none."""
    prompts = {"prompt": picture.prompt, "negativePrompt": picture.negative_prompt}
    given = {name: value for name, value in prompts.items() if value is not None}
    return {**picture.meta, **given} or None


def _browsing_level(picture: Picture) -> int:
    """The level as a bit, 1 to 16; "X" stands for two of them, odd ids get the upper one."""
    return 1 << _LEVELS.index(picture.nsfw_level) + (picture.nsfw_level == "X" and picture.id % 2)


def _common(picture: Picture, url: str) -> Json:
    size = {"width": picture.width, "height": picture.height}
    return {"id": picture.id, "url": url, **size, "hash": _BLACK_BLURHASH, "type": picture.type}
