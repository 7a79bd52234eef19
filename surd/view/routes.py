"""The viewer's routes: what comes in is checked here, what goes out is made elsewhere."""

from __future__ import annotations

import asyncio
import secrets
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import web

from surd.errors import SurdError
from surd.pages.templates import STYLE, templates_in
from surd.pages.text import number, visible
from surd.stages.filter.rules import REASONS
from surd.untrusted import parse_json
from surd.view import gallery, sample
from surd.view.guard import guard
from surd.view.index import Index
from surd.view.query import is_id, parse
from surd.view.state import Snapshot, View

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).parent
_ASSETS = {
    "style.css": (STYLE, "text/css"),
    "view.css": (_HERE / "assets" / "view.css", "text/css"),
    "view.js": (_HERE / "assets" / "view.js", "text/javascript"),
}
_ALIKE = 12
_DECISIONS = {"keep": "keep", "drop": "drop", "undo": None}
_MAX_WRITE_BYTES = 1_000


def make_app(view: View) -> web.Application:
    """The application that shows one workspace."""
    viewer = _Viewer(view, secrets.token_urlsafe(24))
    app = web.Application(middlewares=[guard(viewer.token)], client_max_size=_MAX_WRITE_BYTES)
    app.add_routes(
        [
            web.get("/", viewer.gallery),
            web.get("/sample/{id}", viewer.sample),
            web.get("/like/{id}", viewer.like),
            web.get("/image/{id}", viewer.image),
            web.get("/assets/{name}", viewer.asset),
            web.get("/favicon.ico", viewer.icon),
            web.post("/decide", viewer.decide),
            web.post("/apply", viewer.apply),
        ]
    )
    return app


class _Viewer:
    """The handlers, and what they share. Reading is done in threads: it may take a while."""

    def __init__(self, view: View, token: str) -> None:
        self.view = view
        self.token = token

    async def gallery(self, request: web.Request) -> web.Response:
        query = parse(request.query)
        if is_id(query.words):
            raise web.HTTPFound(f"/sample/{query.words}")

        def make() -> str:
            now = self.view.snapshot()
            found = gallery.page(self.view, now, query)
            return self._render(
                "gallery.html.j2", now, query=query, page=found, counts=gallery.counts(now)
            )

        return await self._page(make)

    async def sample(self, request: web.Request) -> web.Response:
        def make() -> str:
            now = self.view.snapshot()
            found = sample.detail(self.view, now, self._position(now.index, request))
            return self._render("sample.html.j2", now, sample=found)

        return await self._page(make)

    async def like(self, request: web.Request) -> web.Response:
        """A piece of a page: the cards of the images most like one."""

        def make() -> str:
            now = self.view.snapshot()
            position = self._position(now.index, request)
            cards = gallery.like(self.view, now, position, _ALIKE)
            return self._render("cards.html.j2", now, cards=cards)

        return await self._page(make)

    async def image(self, request: web.Request) -> web.Response:
        def read() -> tuple[bytes, str] | None:
            index = self.view.index()
            return sample.picture(self.view, index, self._position(index, request))

        found = await asyncio.to_thread(read)
        if found is None:
            raise web.HTTPNotFound(reason="no image")
        data, mime = found
        headers = {"Cache-Control": "private, max-age=3600"}
        return web.Response(body=data, content_type=mime, headers=headers)

    async def asset(self, request: web.Request) -> web.Response:
        if request.match_info["name"] not in _ASSETS:
            raise web.HTTPNotFound
        path, mime = _ASSETS[request.match_info["name"]]
        return web.Response(text=path.read_text("utf-8"), content_type=mime)

    async def icon(self, request: web.Request) -> web.Response:
        return web.Response(status=204)

    async def decide(self, request: web.Request) -> web.Response:
        try:
            asked = parse_json(await request.read())
            sample_id, decision = asked["id"], _DECISIONS[asked["decision"]]
        except (ValueError, KeyError, TypeError):
            raise web.HTTPBadRequest(
                reason="send an id and a decision: keep, drop or undo"
            ) from None

        def write() -> dict[str, Any]:
            now = self.view.snapshot()
            position = self.view.find(now.index, sample_id) if _is_id(sample_id) else None
            if position is None:
                raise web.HTTPNotFound(reason="no such sample")
            self.view.decide(sample_id, decision)  # type: ignore[arg-type]  # of _DECISIONS
            now = self.view.snapshot()
            state = gallery.state_of(now, position)
            return {
                "state": state,
                "label": gallery.label_of(now, position, state),
                "hand": gallery.hand_of(now, position),
                "pending": now.pending,
                "counts": gallery.state_counts(now),
            }

        return await self._answer(write)

    async def apply(self, request: web.Request) -> web.Response:
        def judge() -> dict[str, Any]:
            self.view.apply()
            return {"pending": self.view.snapshot().pending}

        return await self._answer(judge)

    def _position(self, index: Index, request: web.Request) -> int:
        sample_id = request.match_info["id"]
        position = self.view.find(index, sample_id) if _is_id(sample_id) else None
        if position is None:
            raise web.HTTPNotFound(reason="no such sample")
        return position

    async def _page(self, make: Any) -> web.Response:
        try:
            return web.Response(text=await asyncio.to_thread(make), content_type="text/html")
        except SurdError as error:
            text = (
                _templates()
                .get_template("error.html.j2")
                .render(problem=visible(str(error)), name=self.view.workspace.location)
            )
            return web.Response(status=500, text=text, content_type="text/html")

    async def _answer(self, make: Any) -> web.Response:
        try:
            return web.json_response(await asyncio.to_thread(make))
        except SurdError as error:
            return web.json_response({"problem": visible(str(error))}, status=409)

    def _render(self, template: str, now: Snapshot, **values: Any) -> str:
        return (
            _templates()
            .get_template(template)
            .render(
                name=self.view.workspace.location,
                token=self.token,
                pending=now.pending,
                clip_problem=self.view.encoder.problem,
                has_clip=bool(self.view.workspace.parts("clip")),
                **values,
            )
        )


def _is_id(value: object) -> bool:
    return isinstance(value, str) and is_id(value)


@cache
def _templates() -> Environment:
    found = templates_in(_HERE / "templates")
    found.filters["number"] = number
    found.globals["reasons"] = REASONS
    return found
