"""Pages that show images with their prompts: what of them can be understood, and nothing more."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any
from urllib.parse import parse_qs, urljoin, urlsplit

from surd.net.opt_outs import meta_opts_out
from surd.untrusted import parse_json

_SILENT = ("script", "style", "noscript", "button", "svg", "template")
_IMAGE_PAGE = re.compile(r"/image/(\d+)")
_LABEL = re.compile(r"(?:[A-Z][\w ]{0,30}|negative prompt|prompt):?", re.ASCII)
_IMAGE_KEYS = ("image", "imageUrl", "image_url", "img", "src", "url")
_MIN_WORDS = 3
"""Fewer words beside an image that leads nowhere name a logo or a button."""
_MAX_DEPTH, _MAX_CHARS = 30, 20_000


@dataclass(slots=True)
class Card:
    """An image with the words beside it, and the page it leads to."""

    image: str
    link: str | None = None
    alt: str = ""
    words: list[str] = field(default_factory=list)
    prompt: str | None = None
    """The prompt, where the page tells it as data."""

    @property
    def text(self) -> str:
        """The words beside the image, else its description."""
        return tidy(" ".join(self.words)) or tidy(self.alt)

    @property
    def number(self) -> str | None:
        """The site's number of the image."""
        match = _IMAGE_PAGE.search(self.link or "")
        return match[1] if match else None


@dataclass(slots=True)
class ImagePage:
    """What the page of one image says of it."""

    title: str | None = None
    prompt: str | None = None
    negative_prompt: str | None = None
    opts_out: bool = False


def read_cards(html: str, url: str) -> tuple[list[Card], bool]:
    """The images of a page at ``url`` that have words, and whether the page opts out of AI."""
    parser = _Parser(url)
    parser.feed(html)
    parser.close()
    found = [card for text in parser.data for card in _data_cards(text, url)]
    if not found:
        numbered = [card for card in parser.cards if card.number and card.text]
        beside = [card for card in parser.cards if card.words or not card.link]
        wordy = [card for card in beside if len(card.text.split()) >= _MIN_WORDS]
        found = numbered or wordy
    return list({card.image: card for card in reversed(found)}.values())[::-1], parser.opts_out


def read_image_page(html: str) -> ImagePage:
    """Title, prompt and negative prompt of an image's own page, as far as they are labelled."""
    parser = _Parser("")
    parser.feed(html)
    parser.close()
    page = ImagePage(opts_out=parser.opts_out)
    page.title = tidy("".join(parser.title)) or None
    page.prompt = tidy("".join(parser.labelled.get("prompt", []))).rstrip(", ") or None
    negative_prompt = "".join(parser.labelled.get("negative prompt", []))
    page.negative_prompt = tidy(negative_prompt).rstrip(", ") or None
    return page


def tidy(text: str) -> str:
    """Words with single spaces, and none before a comma; nothing that is commas alone."""
    text = re.sub(r"\s+,", ",", " ".join(text[:_MAX_CHARS].split()))
    return text if text.strip(", ") else ""


class _Parser(HTMLParser):
    """Gathers images, links, words, labels and embedded data; tags need not be closed."""

    def __init__(self, url: str) -> None:
        super().__init__(convert_charrefs=True)
        self.cards: list[Card] = []
        self.data: list[str] = []
        self.title: list[str] = []
        self.labelled: dict[str, list[str]] = {}
        self.opts_out = False
        self._url = url
        self._link: str | None = None
        self._silent = ""
        self._is_data = self._in_title = False
        self._label: str | None = None
        self._open_card: Card | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "meta":
            self.opts_out |= meta_opts_out(given.get("name", ""), given.get("content", ""))
        elif tag == "a":
            self._link = join(self._url, given.get("href", ""))
        elif tag == "h1":
            self._in_title = not self.title
        elif tag == "img":
            self._image(given)
        elif tag in _SILENT and not self._silent:
            self._silent, self._label = tag, None
            self._is_data = tag == "script" and "json" in given.get("type", "")

    def handle_endtag(self, tag: str) -> None:
        if tag == self._silent:
            self._silent, self._is_data = "", False
        elif tag == "h1":
            self._in_title = False
        elif tag == "a":
            if self._open_card is not None and self._open_card.link and self._open_card.words:
                self._open_card = None
            self._link = None

    def handle_data(self, data: str) -> None:
        if self._is_data:
            self.data.append(data)
        if self._silent:
            return
        word = data.strip()
        if self._in_title:
            self.title.append(data)
        if word and _LABEL.fullmatch(word) and word.endswith(":"):
            self._label = word.rstrip(":").lower()
            self.labelled.setdefault(self._label, [])
        elif self._label is not None:
            self.labelled[self._label].append(data)
        if word and self._open_card is not None:
            self._open_card.words.append(word)

    def parse_marked_section(self, i: int, report: bool = True) -> int:
        """``<![`` begins a comment in HTML (13.2.5.42 of its standard); Python fails at some."""
        return self.parse_bogus_comment(i, report)

    def _image(self, given: dict[str, str]) -> None:
        source = given.get("src") or given.get("data-src") or ""
        if not source or source.startswith("data:"):
            source = given.get("data-src") or given.get("srcset", "").split(" ")[0]
        image = join(self._url, source) if source else None
        if image is None or urlsplit(image).path.lower().endswith((".svg", ".gif", ".ico")):
            self._open_card = None
            return
        self._open_card = Card(_without_proxy(image), self._link, given.get("alt", ""))
        self.cards.append(self._open_card)


def join(base: str, address: str) -> str | None:
    """An absolute http(s) url, or None for what is none."""
    try:
        url = urljoin(base, address.strip())
        parts = urlsplit(url)
    except ValueError:
        return None
    return url if parts.scheme in ("http", "https") and parts.hostname else None


def _without_proxy(url: str) -> str:
    """The image behind Next.js's resizing address, ``/_next/image?url=...``."""
    parts = urlsplit(url)
    inner = parse_qs(parts.query).get("url") if parts.path.endswith("/_next/image") else None
    return (join(url, inner[0]) if inner else None) or url


def _data_cards(text: str, url: str) -> Iterator[Card]:
    """Objects of embedded JSON that have a prompt and an image."""
    try:
        whole = parse_json(text)
    except ValueError:
        return
    for item in _objects(whole, _MAX_DEPTH):
        prompt = item.get("prompt")
        image = next(
            (found for k in _IMAGE_KEYS if isinstance(item.get(k), str)
             and (found := join(url, item[k]))), None,
        )  # fmt: skip
        if isinstance(prompt, str) and prompt.strip() and image is not None:
            number = str(item.get("id") or "")
            link = join(url, f"/image/{number}") if number.isdecimal() else None
            title = item.get("title")
            words = [title] if isinstance(title, str) else []
            yield Card(image, link, words=words, prompt=tidy(prompt))


def _objects(value: Any, depth: int) -> Iterator[dict[str, Any]]:
    if depth and isinstance(value, dict):
        yield value
    if depth and isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _objects(item, depth - 1)
