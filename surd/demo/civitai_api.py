"""Answers as Civitai's site API gives them: `/images`, and `/models` as in 2023 and in 2026."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from aiohttp import web

from surd.demo.picture import Picture

Json = dict[str, object]

LEVELS = ("None", "Soft", "Mature", "X")
_EXTENSIONS = {"image/png": "png", "image/webp": "webp", "image/gif": "gif", "video/mp4": "mp4"}
_BLACK_BLURHASH = "L00000fQfQfQfQfQfQfQfQfQfQfQ"


@dataclass(frozen=True)
class CivitaiApi:
    """The API over `pictures`; `images` and `models` raise ValueError for a wrong query."""

    pictures: list[Picture]
    meta_shape: Literal["flat", "nested"]
    """Nested: inside `meta` stand the image's id and the true `meta`."""
    models_shape: Literal["2023", "2026"]
    numeric_cursor: bool
    """Cursors of ``/images`` are ``120`` rather than ``120|4711``."""
    repeat_cursor_item: bool
    """The last item of a page of ``/images`` comes again as the first of the next page."""
    page_size_cap: int
    site_url: str = ""
    """What links and the pictures' addresses start with."""

    def images(self, request: web.Request) -> Json:
        """``GET /api/v1/images``, paged by cursor."""
        found = _chosen(self.pictures, request.query)
        limit = _whole(request.query, "limit", 50, most=self.page_size_cap)
        start = _position(request.query.get("cursor", "0"))
        with_meta = request.query.get("withMeta", "").lower() == "true"
        items = [self._image_item(picture, with_meta) for picture in found[start : start + limit]]
        if start + limit >= len(found):
            return {"items": items, "metadata": {}}
        following = start + limit - int(self.repeat_cursor_item and limit > 1)
        cursor = following if self.numeric_cursor else f"{following}|{found[following].id}"
        # As in reality the link forgets withMeta.
        link = self._link(request, without="withMeta", cursor=cursor)
        return {"items": items, "metadata": {"nextCursor": cursor, "nextPage": link}}

    def models(self, request: web.Request) -> Json:
        """``GET /api/v1/models``, paged by number in 2023 and by cursor in 2026."""
        found = _grouped(_chosen(self.pictures, request.query), lambda p: p.model_id)
        limit = _whole(request.query, "limit", 20, most=min(100, self.page_size_cap))
        if self.models_shape == "2023":
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
        return self.site_url + str(request.rel_url.with_query({**kept, **changed}))

    def _image_url(self, picture: Picture) -> str:
        if picture.url is not None:
            return picture.url
        name = f"{picture.id}.{_EXTENSIONS.get(picture.mime, 'jpeg')}"
        return f"{self.site_url}/images/xG1nkqKTMzGDvpLrqFT7WA/{picture.uuid}/width=450/{name}"

    def _image_item(self, picture: Picture, with_meta: bool) -> Json:
        """An item of ``/images``."""
        meta: Json | None = _meta(picture)
        if self.meta_shape == "nested":
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
        first, old = pictures[0], self.models_shape == "2023"
        uses = ("None", "Image", "Rent", "Sell")[: first.model_id % 4 + 1]
        versions = _grouped(pictures, lambda p: p.version_id)
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
            "modelVersions": [self._version_item(group) for group in versions],
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
        if self.models_shape == "2023":
            return {**common, "nsfw": picture.nsfw_level, "meta": _meta(picture)}
        has_prompt = picture.prompt is not None
        flags = {"hasMeta": _meta(picture) is not None, "hasPositivePrompt": has_prompt}
        return {**common, "nsfwLevel": _browsing_level(picture), **flags}


def refuse_unknown(what: str, names: Collection[str], known: Collection[str]) -> None:
    """Raises ValueError for a name that is not among the known ones."""
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


def _chosen(pictures: Sequence[Picture], query: Mapping[str, str]) -> list[Picture]:
    """Pictures that pass the query; a level lets through itself and milder ones."""
    asked = query.get("nsfw", "true")
    level = {"true": "X", "false": "None"}.get(asked.lower(), asked)
    refuse_unknown("nsfw", [level], LEVELS)
    return [
        picture
        for picture in pictures
        if query.get("modelId", str(picture.model_id)) == str(picture.model_id)
        and query.get("username", picture.username) == picture.username
        and LEVELS.index(picture.nsfw_level) <= LEVELS.index(level)
    ]


def _grouped(pictures: list[Picture], number: Callable[[Picture], int]) -> list[list[Picture]]:
    """Pictures of the same number together, in the order in which the numbers come."""
    groups: dict[int, list[Picture]] = {}
    for picture in pictures:
        groups.setdefault(number(picture), []).append(picture)
    return list(groups.values())


def _meta(picture: Picture) -> Json | None:
    """Generation settings under Civitai's names; None when the picture has none."""
    prompts = {"prompt": picture.prompt, "negativePrompt": picture.negative_prompt}
    given = {name: value for name, value in prompts.items() if value is not None}
    return {**picture.meta, **given} or None


def _browsing_level(picture: Picture) -> int:
    """The level as a bit, 1 to 16; "X" stands for two of them, odd ids get the upper one."""
    return 1 << LEVELS.index(picture.nsfw_level) + (picture.nsfw_level == "X" and picture.id % 2)


def _common(picture: Picture, url: str) -> Json:
    size = {"width": picture.width, "height": picture.height}
    return {"id": picture.id, "url": url, **size, "hash": _BLACK_BLURHASH, "type": picture.type}
