"""Lexica's search, in both forms it has had.

``search``: ``GET /api/v1/search?q=WORDS`` with images that carry their prompts, one answer a query.
``infinite_prompts``: ``POST /api/infinite-prompts``, images and prompts apart, joined by the
prompt's id, paged by a cursor. Either may be closed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from surd.errors import SourceError
from surd.net.http_api import open_api
from surd.params import runtime
from surd.sources.record import Page, Record, SourceParams, plain_url
from surd.untrusted import parse_json

LICENCE = "CC BY-NC 4.0 (https://lexica.art/terms)"
"""Of what lexica.art shows; commercial use needs a paid plan of the site."""
_KNOWN = ("id", "gallery", "src", "srcSmall", "prompt", "negativePrompt", "model", "nsfw", "images")


class LexicaSource(SourceParams):
    """Images that lexica.art, or a server that answers alike, finds for words."""

    kind: Literal["lexica"] = "lexica"
    queries: list[str] = Field(min_length=1, description="words to search for, one search each")
    api: Literal["search", "infinite_prompts"] = Field(
        default="search",
        description="search: the first API, 50 images per query; infinite_prompts: the later one",
    )
    base_url: str = Field(default="https://lexica.art", description="with or without /api")
    image_url: str = Field(
        default="https://image.lexica.art/full_jpg/{id}",
        description="address of images that are listed without a url",
    )
    model: str | None = Field(
        default=None,
        description="infinite_prompts: only images by this model, such as lexica-aperture-v2",
    )
    nsfw: bool = Field(default=True, description="false: leave out what the site marks as nsfw")
    contact: str | None = runtime(None, "mail address or web page sent to the site in User-Agent")
    requests_per_s: float = runtime(0.5, "maximum API requests per second", gt=0)
    retries: int = runtime(3, "retries after errors that may pass", ge=0, le=20)
    timeout_s: float = runtime(60.0, "seconds to wait for an answer", gt=0)

    @field_validator("base_url")
    @classmethod
    def _base_url(cls, value: str) -> str:
        return plain_url(value).removesuffix("/v1").removesuffix("/api")

    @field_validator("queries")
    @classmethod
    def _words(cls, value: list[str]) -> list[str]:
        if not all(query.strip() for query in value):
            raise ValueError("a query without words; remove it")
        return value

    @field_validator("image_url")
    @classmethod
    def _with_id(cls, value: str) -> str:
        if "{id}" not in value:
            raise ValueError("expected a url that contains {id}")
        return value


def pages(params: LexicaSource, cursor: str | None) -> Iterator[Page]:
    """A page an answer; the cursor tells which query, and what the site calls the place in it.

    Raises SourceError, one line, when the site does not answer as it did.
    """
    method: Literal["GET", "POST"] = "GET" if params.api == "search" else "POST"
    ask = open_api(
        params.base_url,
        token=None,
        method=method,
        contact=params.contact,
        requests_per_s=params.requests_per_s,
        retries=params.retries,
        timeout_s=params.timeout_s,
    )
    path = "api/v1/search" if params.api == "search" else "api/infinite-prompts"
    index, place = _position(params, cursor)
    visited: set[tuple[int, int | str | None]] = set()
    while index < len(params.queries):
        here = json.dumps({"query": index, "cursor": place}) if index or place else None
        try:
            answer = ask(path, _question(params, params.queries[index], place))
            records = _records(params, answer)
        except SourceError as error:
            raise SourceError(
                f"{error}. Lexica may have closed this API: set api to the other one, set "
                "base_url to a server with the same API, or remove the source; other sources "
                "continue"
            ) from error
        yield Page(here, records)
        visited.add((index, place))
        following = _next_place(params, answer, place) if records else None
        if following is None or (index, following) in visited:
            index, place = index + 1, None
        else:
            place = following


def _position(params: LexicaSource, cursor: str | None) -> tuple[int, int | str | None]:
    if cursor is None:
        return 0, None
    try:
        position = parse_json(cursor)
        return int(position["query"]), position["cursor"]
    except (ValueError, TypeError, KeyError) as error:
        raise SourceError(
            f"{params.base_url}: {cursor!r} is not a cursor of lexica; start again"
        ) from error


def _question(params: LexicaSource, words: str, place: int | str | None) -> dict[str, str | int]:
    if params.api == "search":
        return {"q": words}
    model = {"model": params.model} if params.model else {}
    where: dict[str, str | int] = {"cursor": 0 if place is None else place}
    return {"text": words, "searchMode": "images", "source": "search", **model, **where}


def _next_place(
    params: LexicaSource, answer: Mapping[str, Any], place: int | str | None
) -> int | str | None:
    """The cursor of the next answer, if there is one further on."""
    following = answer.get("nextCursor")
    if params.api == "search" or isinstance(following, bool):
        return None
    if isinstance(following, int):
        return following if following > (place if isinstance(place, int) else 0) else None
    return following if isinstance(following, str) and following not in ("", place) else None


def _records(params: LexicaSource, answer: Mapping[str, Any]) -> list[Record]:
    images = answer.get("images")
    if not isinstance(images, list):
        raise SourceError(f"{params.base_url}: the answer has no list of images")
    told = answer.get("prompts")
    prompts = {
        str(prompt.get("id")): prompt
        for prompt in (told if isinstance(told, list) else ())
        if isinstance(prompt, dict)
    }
    records = []
    for image in images:
        if isinstance(image, dict):
            whole = {**prompts.get(str(image.get("promptid")), {}), **image}
            if params.nsfw or not whole.get("nsfw"):
                records.append(_record(params, whole))
    return records


def _record(params: LexicaSource, image: Mapping[str, Any]) -> Record:
    number = _text(image.get("id"))
    at_home = f".{urlsplit(params.base_url).hostname}".endswith(".lexica.art")
    url = _address(image.get("src")) or _address(image.get("srcSmall"))
    if url is None and number is not None:
        url = params.image_url.replace("{id}", number)
    nsfw = image.get("nsfw")
    settings = {k: v for k, v in image.items() if k not in _KNOWN and v is not None}
    return Record(
        key=number or url or json.dumps(image, sort_keys=True, default=str),
        source_id=number,
        url=url,
        prompt=_text(image.get("prompt")),
        negative_prompt=_text(image.get("negativePrompt")) or None,
        licence=LICENCE if at_home else None,
        nsfw_level=None if not isinstance(nsfw, bool) else "x" if nsfw else "none",
        model=_text(image.get("model")),
        page_url=_address(image.get("gallery")),
        settings=settings,
    )


def _address(value: Any) -> str | None:
    """A url; where a list was given, its first."""
    if isinstance(value, list):
        return next((found for item in value if (found := _address(item))), None)
    return value if isinstance(value, str) and value.startswith(("http://", "https://")) else None


def _text(value: Any) -> str | None:
    return str(value) if isinstance(value, str | int) and not isinstance(value, bool) else None
