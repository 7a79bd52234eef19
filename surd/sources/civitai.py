"""Civitai's site API, as it answers since 2023. https://developer.civitai.com/site/reference

Handled: images and models endpoints; cursors as numbers or strings, page numbers before them;
``meta`` missing, null, flat, nested one deeper, or with nothing but ComfyUI's graph; ``nsfw`` as
bool or level, ``nsfwLevel`` as word or bitmask; a cursor page that begins with the last item of the
one before, or holds nothing; cursors that expire; the end that the API puts to every list.
"""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

from pydantic import Field, field_validator, model_validator

from surd.errors import SourceError
from surd.net.http_api import Ask, RefusedError, open_api
from surd.params import runtime
from surd.sources.metadata import MAX_RAW_CHARS, NOT_UNDERSTOOD
from surd.sources.record import Page, Record, SourceParams, plain_url
from surd.sources.sidecar import json_able
from surd.text.generation import dialects
from surd.text.generation.found import Generation, Text, json_object

TOKEN_VARIABLE = "CIVITAI_API_TOKEN"  # noqa: S105  (the name of the variable)
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_TAG_NUMBERS = re.compile(r"\d+(,\d+)*", re.ASCII)
_LEVELS = ("none", "soft", "mature", "x")
_RATINGS = {"pg": "none", "pg-13": "soft", "r": "mature", "xxx": "x"} | {
    name: name for name in _LEVELS
}
_LOOKUP_PAGES = 5
_MAX_LISTED = 50_000
"""Images that one question brings, by observation; nothing says that there are more."""
_RED = "https://civitai.red"
"""Where Civitai shows what is rated R and above."""
_LICENCE_KEYS = ("allowCommercialUse", "allowNoCredit", "allowDerivatives", "allowDifferentLicense")
_log = logging.getLogger("surd")


class CivitaiSource(SourceParams):
    """Images of civitai.com, or of any server that answers alike."""

    token_variable: ClassVar[str | None] = TOKEN_VARIABLE

    kind: Literal["civitai"] = "civitai"
    endpoint: Literal["images", "models"] = Field(
        default="images", description="list images, or list models and take their example images"
    )
    base_url: str = Field(default="https://civitai.com", description="with or without /api/v1")
    nsfw: str | None = Field(
        default=None, description="None, Soft, Mature, X, true or false; prefer browsing_level"
    )
    browsing_level: int | None = Field(
        default=None,
        ge=1,
        le=31,
        description="only images of these ratings, added up: 1 PG, 2 PG-13, 4 R, 8 X, 16 XXX",
    )
    sort: str | None = Field(default=None, description="such as 'Most Reactions' or Newest")
    period: str | None = Field(default=None, description="AllTime, Year, Month, Week or Day")
    model_id: int | None = Field(default=None, description="only images made with this model")
    username: str | None = Field(default=None, description="only images of this user")
    base_models: list[str] = Field(
        default=[], description="only images made with these, such as 'SDXL 1.0' or 'Flux.1 D'"
    )
    tag: str | None = Field(
        default=None,
        description="only models with this tag; only images with the tags of these numbers, as in "
        "'5169' or '5169,111768'",
    )
    image_width: int | Literal["original"] | None = Field(
        default=None,
        description="width to request from the image server; default: the url as listed",
    )
    page_size: int = runtime(100, "items per request", ge=1, le=200)
    contact: str | None = runtime(None, "mail address or web page sent to the site in User-Agent")
    requests_per_s: float = runtime(2.0, "maximum API requests per second", gt=0)
    retries: int = runtime(5, "retries after errors that may pass", ge=0, le=20)
    timeout_s: float = runtime(60.0, "seconds to wait for an answer", gt=0)

    @field_validator("base_url")
    @classmethod
    def _plain_url(cls, value: str) -> str:
        return plain_url(value).removesuffix("/api/v1")

    @model_validator(mode="after")
    def _tag_numbers(self) -> Self:
        if self.endpoint == "images" and self.tag and not _TAG_NUMBERS.fullmatch(self.tag):
            raise ValueError(
                f"tag: {self.tag!r}: images are chosen by the number of a tag, which its page's "
                "address has (civitai.com/images?tags=5169); names work with endpoint: models"
            )
        return self


def pages(params: CivitaiSource, cursor: str | None) -> Iterator[Page]:
    """The API's pages from a cursor on. Raises SourceError when it gives no more answers.

    A cursor is the query that brings the page, url-encoded; ``after``: the key of the record before
    it, which some pages repeat; and ``listed``: how many items came before.
    """
    ask = open_api(
        f"{params.base_url}/api/v1",
        token=_token(),
        contact=params.contact,
        requests_per_s=params.requests_per_s,
        retries=params.retries,
        timeout_s=params.timeout_s,
    )
    without_meta = _Share()
    try:
        yield from _pages(params, ask, cursor, without_meta)
    finally:
        without_meta.tell()


class _Share:
    """How many images came without ``meta``."""

    def __init__(self) -> None:
        self.some = self.all = 0

    def count(self, answer: Mapping[str, Any]) -> None:
        """Count the images of a page of the images endpoint."""
        images = [item for item in _mappings(answer.get("items")) if _is_image(item)]
        self.all += len(images)
        self.some += sum(not item.get("meta") for item in images)

    def tell(self) -> None:
        """One line, if there were any."""
        if self.some:
            _log.warning(
                "Civitai gave %d of %d images without meta, and so without a prompt: their authors "
                "gave none, or hide it",
                self.some,
                self.all,
            )


def _pages(
    params: CivitaiSource, ask: Ask, cursor: str | None, without_meta: _Share
) -> Iterator[Page]:
    position = dict(parse_qsl(cursor or ""))
    after = position.pop("after", None)
    listed = _whole(position.pop("listed", "0"))
    visited: set[str] = set()
    while True:
        before = {"after": after, "listed": str(listed)} if after else {}
        here = _encode(position | before) or None
        try:
            answer = ask(params.endpoint, _query(params) | position)
        except RefusedError as error:
            if error.status == 400 and "cursor" in position and not visited:
                _log.warning("Civitai continues no longer from where surd was; begins again")
                position, after, listed = {}, None, 0
                continue
            if error.status < 500 and listed >= _MAX_LISTED - params.page_size:
                _tell_end(listed)
                return
            raise
        if params.endpoint == "images":
            without_meta.count(answer)
        records = _records(params, ask, answer)
        listed += len(answer["items"])
        if records and records[0].key == after:
            records = records[1:]
        yield Page(here, records)
        visited.add(_encode(position))
        following = _next_position(answer)
        if not following or _encode(following) in visited:
            if listed >= _MAX_LISTED - params.page_size:
                _tell_end(listed)
            return
        position, after = following, records[-1].key if records else after


def _tell_end(listed: int) -> None:
    _log.warning(
        "Civitai ends a list at some %d images, and did after %d: what lies behind comes with "
        "other questions, so add sources with another period, sort, model_id, username or "
        "base_models",
        _MAX_LISTED,
        listed,
    )


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _token() -> str | None:
    """Raises SourceError for what no header can hold, such as a page's placeholder."""
    token = os.environ.get(TOKEN_VARIABLE)
    if token and not (token.isascii() and token.isprintable()):
        raise SourceError(f"{TOKEN_VARIABLE}: not an API key; set it to yours, or unset it")
    return token


def _encode(position: Mapping[str, str]) -> str:
    return urlencode(position, errors="replace")


def _query(params: CivitaiSource) -> dict[str, str | int]:
    page_size = min(params.page_size, 100) if params.endpoint == "models" else params.page_size
    if params.limit is not None and params.endpoint == "images":
        page_size = min(page_size, params.limit)
    asked: dict[str, str | int | None] = {
        "limit": page_size,
        "nsfw": params.nsfw,
        "browsingLevel": params.browsing_level if params.endpoint == "images" else None,
        "baseModels": ",".join(params.base_models) or None,
        "type": "image" if params.endpoint == "images" else None,
        "sort": params.sort,
        "period": params.period,
        "username": params.username,
        "tag": params.tag if params.endpoint == "models" else None,
        "tags": params.tag if params.endpoint == "images" else None,
        "modelId": params.model_id if params.endpoint == "images" else None,
        "ids": params.model_id if params.endpoint == "models" else None,
        "withMeta": "true" if params.endpoint == "images" else None,
    }
    return {key: value for key, value in asked.items() if value is not None}


def _next_position(answer: Mapping[str, Any]) -> dict[str, str] | None:
    """The part of the query that brings the next page, or None after the last one.

    ``nextPage`` is only read for its cursor or page number: it drops other parameters, and it
    may name another host.
    """
    metadata = _mapping(answer.get("metadata"))
    cursor = metadata.get("nextCursor")
    if cursor not in (None, ""):
        return {"cursor": str(cursor)}
    link = metadata.get("nextPage")
    if isinstance(link, str):
        query = dict(parse_qsl(link.partition("?")[2].partition("#")[0]))
        for name in ("cursor", "page"):
            if query.get(name):
                return {name: query[name]}
    return None


def _records(params: CivitaiSource, ask: Ask, answer: Mapping[str, Any]) -> list[Record]:
    items = answer.get("items")
    if not isinstance(items, list):
        raise SourceError(f"{params.base_url}: the answer has no list of items")
    mappings = [item for item in items if isinstance(item, dict)]
    if params.endpoint == "images":
        return [_record(params, item, {}) for item in mappings if _is_image(item)]
    return [record for model in mappings for record in _model_records(params, ask, model)]


def _model_records(params: CivitaiSource, ask: Ask, model: Mapping[str, Any]) -> Iterator[Record]:
    shared = {
        "model_id": model.get("id"),
        "model_name": model.get("name"),
        "author": _mapping(model.get("creator")).get("username"),
        "licence": _licence(model),
    }
    for version in _mappings(model.get("modelVersions")):
        images = [image for image in _mappings(version.get("images")) if _is_image(image)]
        found = _look_up_meta(ask, model, version, images)
        for image in images:
            if not image.get("meta") and str(image.get("id")) in found:
                image = {**image, "meta": found[str(image.get("id"))]}
            about = {"version_id": version.get("id"), "baseModel": version.get("baseModel")}
            yield _record(params, image, {**shared, **about})


def _look_up_meta(
    ask: Ask, model: Mapping[str, Any], version: Mapping[str, Any], images: list[dict[str, Any]]
) -> dict[str, Any]:
    """Image id -> meta, for images that have a prompt which the models endpoint leaves out."""
    wanted = {str(i.get("id")) for i in images if i.get("hasMeta") and not i.get("meta")}
    found: dict[str, Any] = {}
    position: dict[str, str] | None = {}
    query = {"modelId": str(model.get("id")), "modelVersionId": str(version.get("id"))}
    for _ in range(_LOOKUP_PAGES):
        if position is None or wanted <= found.keys():
            break
        try:
            answer = ask("images", {**query, "withMeta": "true", "limit": 200, **position})
        except SourceError as error:
            _log.warning("prompts of model %s: %s", model.get("id"), error)
            break
        for item in _mappings(answer.get("items")):
            found[str(item.get("id"))] = item.get("meta")
        position = _next_position(answer)
    return found


def _record(params: CivitaiSource, item: Mapping[str, Any], about: Mapping[str, Any]) -> Record:
    given = _unnested(item.get("meta"))
    meta = _mapping(given)
    told = None if _text(meta.get("prompt")) else _generation(given)
    prompt = (told.prompt if told else None) or _text(meta.get("prompt"))
    url = item.get("url") if isinstance(item.get("url"), str) else None
    number = item.get("id")
    settings = {k: v for k, v in meta.items() if k not in ("prompt", "negativePrompt")}
    if given and prompt is None and (told is None or told.prompt is None):
        settings |= _not_understood(given)
    extra = {
        "baseModel": item.get("baseModel") or about.get("baseModel"),
        "postId": item.get("postId"),
        "modelId": about.get("model_id"),
        "modelVersionId": about.get("version_id"),
        "blurhash": item.get("hash"),
    }
    level = nsfw_level(item)
    return Record(
        key=_key(item, url),
        source_id=None if number is None else str(number),
        url=_sized(url, params.image_width),
        prompt=prompt,
        negative_prompt=_text(meta.get("negativePrompt"))
        or (told.negative_prompt if told else None),
        author=_text(item.get("username") or about.get("author")),
        licence=_text(about.get("licence")),
        nsfw_level=level,
        model=_text(meta.get("Model") or about.get("model_name") or (told.model if told else None)),
        page_url=None if number is None else _page_url(params.base_url, number, level),
        created_at=_text(item.get("createdAt")),
        settings=settings | {k: v for k, v in extra.items() if v is not None},
    )


def _unnested(meta: Any) -> Any:
    """``meta`` of an item, which some answers nest one deeper, or give as text."""
    for _ in range(2):
        if isinstance(meta, str):
            meta = json_object(meta) or meta
        if isinstance(meta, dict) and "meta" in meta:
            meta = meta["meta"]
    return meta


def _generation(meta: Any) -> Generation | None:
    """What ``meta`` without a plain prompt tells, such as ComfyUI's graph or infotext."""
    if isinstance(meta, str):
        return dialects.read_text(meta)
    return dialects.read_object(_mapping(meta))


def _not_understood(meta: Any) -> dict[str, Any]:
    """Text where the prompt should be, as a setting; that of another form is kept as JSON."""
    value = meta.get("prompt") if isinstance(meta, dict) else meta
    text = value if isinstance(value, str) else json.dumps(json_able(value), ensure_ascii=False)
    is_missed = dialects.is_long(Text("", "", text))
    return {NOT_UNDERSTOOD: {"meta": text[:MAX_RAW_CHARS]}} if is_missed else {}


def _page_url(base_url: str, number: object, level: str | None) -> str:
    is_red = level in ("mature", "x") and _split(base_url)[0] in ("civitai.com", "www.civitai.com")
    return f"{_RED if is_red else base_url}/images/{number}"


def _key(item: Mapping[str, Any], url: str | None) -> str:
    """The image's number; else the uuid in its url, the url, or all of it.

    One upload can be listed under several numbers, each a page of its own: they are samples of
    their own, and dedup's to judge.
    """
    if item.get("id") is not None:
        return str(item["id"])
    match = _UUID.search(url or "")
    return (match[0].lower() if match else url) or json.dumps(item, sort_keys=True, default=str)


def _sized(url: str | None, width: int | str | None) -> str | None:
    """Put the asked width into the image server's resize instruction, ``/width=450/``."""
    host = _split(url or "")[0]
    if url is None or width is None or not f".{host}".endswith((".civitai.com", ".civitai.red")):
        return url
    asked = "original=true" if width == "original" else f"width={width}"
    return re.sub(r"/(width=\d+|original=true)(?=/)", f"/{asked}", url, count=1)


def nsfw_level(item: Mapping[str, Any]) -> str | None:
    """``none``, ``soft``, ``mature``, ``x``, or None when the answer does not say.

    Numbers are Civitai's browsing levels, a bitmask: 1 PG, 2 PG-13, 4 R, 8 X, 16 XXX. Of several
    levels the strictest counts.
    """
    said = [item.get(name) for name in ("nsfwLevel", "nsfw", "browsingLevel")]
    levels = [level for level in map(_level, said) if level is not None]
    if levels:
        return max(levels, key=_LEVELS.index)
    return "x" if True in said else "none" if False in said else None


def _level(value: object) -> str | None:
    """What a word or number says; a bool says too little."""
    if isinstance(value, str):
        if not (value.isdecimal() and len(value) < 9):
            return _RATINGS.get(value.lower())
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return _LEVELS[min(value.bit_length() - 1, 3)]
    return None


def _is_image(item: Mapping[str, Any]) -> bool:
    if item.get("type") not in (None, "image"):
        return False
    path = _split(str(item.get("url") or ""))[1].lower()
    return not path.endswith((".mp4", ".webm", ".mov", ".mp3"))


def _split(url: str) -> tuple[str, str]:
    """Host and path of a url; empty when it is no url."""
    try:
        parts = urlsplit(url)
        return parts.hostname or "", parts.path
    except ValueError:
        return "", ""


def _licence(model: Mapping[str, Any]) -> str | None:
    terms = [
        f"{key}={json.dumps(model[key], separators=(',', ':'))}"
        for key in _LICENCE_KEYS
        if key in model
    ]
    return "Civitai " + " ".join(terms) if terms else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _mappings(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, dict | list):
        return None
    return str(value)
