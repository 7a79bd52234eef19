"""The viewer's routes: what comes in is checked here, what goes out is made elsewhere."""

from __future__ import annotations

import asyncio
import math
import re
import secrets
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from aiohttp import web

from surd.dataset.edit import BULK, change_all, change_of, what_of, write_one
from surd.dataset.simple_prompts import simple_prompts, tag_counts
from surd.errors import SurdError, command
from surd.pages.templates import STYLE, templates_in
from surd.pages.text import number, visible
from surd.stages.filter.rules import LABELS
from surd.store import edits
from surd.store.ids import whole_ids
from surd.untrusted import parse_json
from surd.view import gallery, sample
from surd.view.guard import guard
from surd.view.index import SCORES, Index
from surd.view.query import FILTERS, QueryError, is_id, parse
from surd.view.state import Snapshot, View

if TYPE_CHECKING:
    from jinja2 import Environment

_HERE = Path(__file__).parent
_ASSETS = {
    "style.css": (STYLE, "text/css"),
    "view.css": (_HERE / "assets" / "view.css", "text/css"),
    "view.js": (_HERE / "assets" / "view.js", "text/javascript"),
    "map.js": (_HERE / "assets" / "map.js", "text/javascript"),
}
_ALIKE = 12
_ID_BEGINNING = re.compile(r"[0-9a-f]{6,32}")
_DECISIONS = {"keep": "keep", "drop": "drop", "undo": None}
_MAX_WRITE_BYTES = 500_000
_MOST_DECIDED = 5_000
"""Samples in one decision: each is a file."""
_TAGS_SHOWN = 2_000


def make_app(view: View) -> web.Application:
    """The application that shows one workspace."""
    viewer = _Viewer(view, secrets.token_urlsafe(24))
    app = web.Application(middlewares=[guard(viewer.token)], client_max_size=_MAX_WRITE_BYTES)
    app.add_routes(
        [
            web.get("/", viewer.gallery),
            web.get("/search", viewer.search),
            web.get("/sample/{id}", viewer.sample),
            web.get("/like/{id}", viewer.like),
            web.get("/card/{id}", viewer.card),
            web.get("/map", viewer.map),
            web.get("/map/points", viewer.points),
            web.get("/image/{id}", viewer.image),
            web.get("/assets/{name}", viewer.asset),
            web.get("/favicon.ico", viewer.icon),
            web.get("/tags", viewer.tags),
            web.post("/decide", viewer.decide),
            web.post("/edit", viewer.edit),
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
        def make() -> str:
            query = parse(request.query.items())
            if _ID_BEGINNING.fullmatch(query.words.lower()):
                id_ = self._id_that_begins(query.words)
                if id_ is not None:
                    raise web.HTTPFound(f"/sample/{id_}")
            now = self.view.snapshot()
            found = gallery.page(self.view, now, query)
            values = {"query": query, "page": found, "counts": gallery.counts(now)}
            return self._render("gallery.html.j2", now, **values)

        return await self._page(make)

    async def search(self, request: web.Request) -> web.Response:
        """How far the search of a page has come, which goes on as long as this is asked."""

        def make() -> dict[str, Any]:
            query = parse(request.query.items())
            return gallery.search_on(self.view, self.view.snapshot(), query)

        return await self._answer(make)

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

    async def card(self, request: web.Request) -> web.Response:
        """A piece of a page: the card of one sample."""

        def make() -> str:
            now = self.view.snapshot()
            card = gallery.card(self.view, now, self._position(now.index, request), math.nan)
            return self._render("cards.html.j2", now, cards=[card])

        return await self._page(make)

    async def map(self, request: web.Request) -> web.Response:
        def make() -> str:
            query = parse(request.query.items())
            return self._render("map.html.j2", self.view.snapshot(), query=query)

        return await self._page(make)

    async def points(self, request: web.Request) -> web.Response:
        """Of the map: places, ids and states."""

        def make() -> dict[str, Any]:
            query = parse(request.query.items())
            return gallery.points(self.view, self.view.snapshot(), query)

        return await self._answer(make)

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

    async def tags(self, request: web.Request) -> web.Response:
        def make() -> str:
            now = self.view.snapshot()
            prompts = simple_prompts(self.view.workspace, edits.read(self.view.workspace))
            found = [(visible(tag, 200), n) for tag, n in tag_counts(prompts)]
            more = max(0, len(found) - _TAGS_SHOWN)
            return self._render("tags.html.j2", now, tags=found[:_TAGS_SHOWN], more=more)

        return await self._page(make)

    async def decide(self, request: web.Request) -> web.Response:
        """One sample by ``id``, several by ``ids``, or all that a query ``found``."""
        try:
            asked = parse_json(await request.read())
            decision = _DECISIONS[asked["decision"]]
            one = asked["id"] if "ids" not in asked and "found" not in asked else None
        except (ValueError, KeyError, TypeError):
            raise web.HTTPBadRequest(
                reason="send an id and a decision: keep, drop or undo"
            ) from None

        def write() -> dict[str, Any]:
            now = self.view.snapshot()
            places = self._places(now, {"ids": [one]} if one is not None else asked)
            if len(places) > _MOST_DECIDED:
                raise SurdError(
                    f"{len(places):,} samples are too many for one decision (at most "
                    f"{_MOST_DECIDED:,}); search for fewer, or set a filter"
                )
            for sample_id in places:
                self.view.decide(sample_id, decision)  # type: ignore[arg-type]  # of _DECISIONS
            now = self.view.snapshot()
            states = [_state(now, id_, position) for id_, position in places.items()]
            told = {"pending": now.pending, "counts": gallery.state_counts(now)}
            if one is not None:
                return {name: states[0][name] for name in ("state", "label", "hand")} | told
            return {"samples": states} | told

        return await self._answer(write)

    async def edit(self, request: web.Request) -> web.Response:
        """Simple prompts, of the samples that are named as for :meth:`decide`."""
        try:
            asked = parse_json(await request.read())
            action, words = asked["action"], [str(word) for word in asked.get("words", ())]
            sizes = {"simple": 1, "reset": 0, "undo": 0} | {k: n for k, (n, _) in BULK.items()}
            if len(words) != sizes[action]:
                raise ValueError("words are missing")
        except (ValueError, KeyError, TypeError):
            raise web.HTTPBadRequest(
                reason="send ids, an action and its words: " + ", ".join(("simple", "undo", *BULK))
            ) from None

        def write() -> dict[str, Any]:
            workspace = self.view.workspace
            if action == "undo" and "edit" in asked:
                return {"changed": len(edits.undo(workspace, name=str(asked["edit"])))}
            ids = list(self._places(self.view.snapshot(), asked))
            if action == "undo":
                return {"changed": len(edits.undo(workspace, ids))}
            if action in BULK:
                change = change_of(action, *words)
                outcome = change_all(workspace, change, what_of(action, words), ids=ids)
            else:
                text = words[0] if words else None
                outcome = write_one(workspace, ids, text, what_of(action, words))
            return {
                name: getattr(outcome, name)
                for name in ("changed", "unchanged", "without", "emptied", "refused", "edit")
            }

        return await self._answer(write)

    def _places(self, now: Snapshot, asked: Any) -> dict[str, int]:
        """Position of each sample that is named."""
        if "found" in asked:
            query = parse(parse_qsl(str(asked["found"]).lstrip("?")))
            return now.index.positions_of(gallery.found(self.view, now, query))
        ids = asked.get("ids")
        if not isinstance(ids, list) or not ids:
            raise web.HTTPNotFound(reason="no such sample")
        places = {}
        for id_ in ids:
            position = self.view.find(now.index, id_) if _is_id(id_) else None
            if position is None:
                raise web.HTTPNotFound(reason="no such sample")
            places[id_] = position
        return places

    def _id_that_begins(self, words: str) -> str | None:
        try:
            return whole_ids(self.view.workspace, [words])[words]
        except SurdError:
            return None

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
            return web.Response(status=_status(error, 500), text=text, content_type="text/html")

    async def _answer(self, make: Any) -> web.Response:
        try:
            return web.json_response(await asyncio.to_thread(make))
        except SurdError as error:
            problem = {"problem": visible(str(error))}
            return web.json_response(problem, status=_status(error, 409))

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
                score_command=command("score", self.view.workspace.location),
                **values,
            )
        )


def _status(error: SurdError, usual: int) -> int:
    return 400 if isinstance(error, QueryError) else usual


def _state(now: Snapshot, sample_id: str, position: int) -> dict[str, str]:
    state = gallery.state_of(now, position)
    return {
        "id": sample_id,
        "state": state,
        "label": gallery.label_of(now, position, state),
        "hand": gallery.hand_of(now, position),
    }


def _is_id(value: object) -> bool:
    return isinstance(value, str) and is_id(value)


@cache
def _templates() -> Environment:
    found = templates_in(_HERE / "templates")
    found.filters["number"] = number
    found.globals["filters"] = FILTERS
    found.globals["labels"] = {
        **LABELS,
        **SCORES,
        "itm": "image-text matching",
        "nsfw": "NSFW score",
    }
    return found
