"""Stable Diffusion Online's search for prompts. https://stablediffusionweb.com/prompts

The site has no documented API: its pages of results show images that lead to a page each, which
has the prompt under a title. Its robots.txt is read first. It may be closed at any time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from surd.errors import SourceError
from surd.net.http_api import AskPage, OptOutError, RefusedError, open_pages, read_robots
from surd.net.robots import Robots, allows, opts_out
from surd.params import runtime
from surd.sources.prompt_pages import Card, ImagePage, read_cards, read_image_page
from surd.sources.record import Page, Record, SourceParams, plain_url
from surd.untrusted import parse_json


class StableDiffusionOnlineSource(SourceParams):
    """Images that stablediffusionweb.com, or a site built alike, finds for words."""

    kind: Literal["stable_diffusion_online"] = "stable_diffusion_online"
    queries: list[str] = Field(min_length=1, description="words to search for, one search each")
    base_url: str = Field(
        default="https://stablediffusionweb.com", description="address of the site"
    )
    search_path: str = Field(
        default="prompts/{query}",
        description="path of a results page; {query} stands for the words, joined by hyphens",
    )
    image_pages: bool = Field(
        default=True,
        description="fetch each image's own page, which has the whole prompt; false: use the words "
        "beside the image, often just a title",
    )
    max_pages: int = Field(default=50, ge=1, description="pages of results to read per query")
    contact: str | None = runtime(None, "mail address or web page sent to the site in User-Agent")
    requests_per_s: float = runtime(
        0.5, "maximum pages per second; robots.txt may ask for fewer", gt=0
    )
    retries: int = runtime(3, "retries after errors that may pass", ge=0, le=20)
    timeout_s: float = runtime(60.0, "seconds to wait for an answer", gt=0)

    @field_validator("base_url")
    @classmethod
    def _base_url(cls, value: str) -> str:
        if urlsplit(plain_url(value)).path:
            raise ValueError("expected the site only; put the path into search_path")
        return plain_url(value)

    @field_validator("queries")
    @classmethod
    def _words(cls, value: list[str]) -> list[str]:
        if not all(_slug(query) for query in value):
            raise ValueError("a query without words; remove it")
        return value


def pages(params: StableDiffusionOnlineSource, cursor: str | None) -> Iterator[Page]:
    """A page of records for each of the site's; the cursor tells the query and the page.

    Raises SourceError, one line, when the site is closed to programs, or not what it was.
    """
    try:
        yield from _pages(params, cursor)
    except SourceError as error:
        raise SourceError(
            f"{error}. Stable Diffusion Online has no API and may refuse programs: remove the "
            "source, or try again later; other sources continue"
        ) from error


def _pages(params: StableDiffusionOnlineSource, cursor: str | None) -> Iterator[Page]:
    index, number = _position(cursor)
    ask, robots = _open(params)
    any_cards = cursor is not None
    previous: set[str] = set()
    while index < len(params.queries):
        here = json.dumps({"query": index, "page": number}) if (index, number) != (0, 1) else None
        cards = _cards(params, ask, robots, params.queries[index], number)
        images = {card.image for card in cards}
        if cards and images != previous and number <= params.max_pages:
            any_cards = True
            made = [_record(params, ask, robots, card) for card in cards[: params.limit]]
            yield Page(here, [record for record in made if record is not None])
            previous, number = images, number + 1
        else:
            previous, index, number = set(), index + 1, 1
    if not any_cards:
        raise SourceError(f"{params.base_url}: no page shows an image with words beside it")


def _position(cursor: str | None) -> tuple[int, int]:
    try:
        position = parse_json(cursor) if cursor else {"query": 0, "page": 1}
        return int(position["query"]), int(position["page"])
    except (ValueError, TypeError, KeyError) as error:
        raise SourceError(f"{cursor!r} is not a cursor of this source; start again") from error


def _open(params: StableDiffusionOnlineSource) -> tuple[AskPage, Robots]:
    """The function that asks for pages, at the pace that robots.txt allows, and its rules."""

    def asking(requests_per_s: float) -> AskPage:
        return open_pages(
            params.base_url,
            contact=params.contact,
            requests_per_s=requests_per_s,
            retries=params.retries,
            timeout_s=params.timeout_s,
        )

    robots = read_robots(asking(params.requests_per_s))
    slowest = min(params.requests_per_s, 1 / robots.delay_s if robots.delay_s else float("inf"))
    return asking(slowest), robots


def _cards(
    params: StableDiffusionOnlineSource, ask: AskPage, robots: Robots, query: str, number: int
) -> list[Card]:
    path = params.search_path.replace("{query}", _slug(query)).lstrip("/")
    url = f"{params.base_url}/{path}"
    asked = urlsplit(url).path + (f"?page={number}" if number > 1 else "")
    if not allows(robots, asked):
        raise SourceError(f"{url}: robots.txt does not allow it")
    if opts_out(robots, asked):
        raise SourceError(f"{url}: robots.txt opts out of AI")
    try:
        html = ask(path, {"page": number} if number > 1 else {})
    except RefusedError as error:
        if error.status == 404 and (number > 1 or len(params.queries) > 1):
            return []  # after the last page, or words that nobody used
        raise
    cards, page_opts_out = read_cards(html, url)
    if page_opts_out:
        raise SourceError(f"{url}: the page opts out of AI")
    return cards


def _slug(query: str) -> str:
    """Words as the site's addresses have them."""
    return re.sub(r"[\W_]+", "-", query.lower()).strip("-")


def _record(
    params: StableDiffusionOnlineSource, ask: AskPage, robots: Robots, card: Card
) -> Record | None:
    """The record of a card, or None when the image's own page opts out of AI."""
    page = ImagePage()
    if params.image_pages and card.prompt is None:
        page = _image_page(params, ask, robots, card)
    if page.opts_out:
        return None
    prompt = card.prompt or page.prompt
    title = page.title or card.text or None
    return Record(
        key=card.number or card.image,
        source_id=card.number,
        url=card.image,
        prompt=prompt or card.text,
        negative_prompt=page.negative_prompt,
        simple_prompt=title if prompt and title != prompt else None,
        page_url=card.link,
    )


def _image_page(
    params: StableDiffusionOnlineSource, ask: AskPage, robots: Robots, card: Card
) -> ImagePage:
    """What the image's own page says; nothing where it may not be asked for, or is not there."""
    link = urlsplit(card.link or "")
    at_home = link.netloc == urlsplit(params.base_url).netloc and card.number is not None
    if not at_home or not allows(robots, link.path):
        return ImagePage()
    if opts_out(robots, link.path):
        return ImagePage(opts_out=True)
    try:
        return read_image_page(ask(link.path.lstrip("/"), {}))
    except OptOutError:
        return ImagePage(opts_out=True)
    except RefusedError as error:
        if error.status in (401, 403, 429):
            raise
        return ImagePage()
