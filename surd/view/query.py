"""What a page of the gallery is asked for: read from an address, and written into one."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt

from surd.stages.filter.rules import REASONS
from surd.store.manual import REASON
from surd.view.index import SCORES

STATES = ("all", "kept", "dropped", "hand")
SORTS = ("collected", *SCORES)
ORDERS = ("down", "up")
FILTERS = tuple(name for name in REASONS if name != REASON)
"""Reasons that filters give."""
_MAX_CHARS = 1_000
_NARROWING = ("show", "reason", "source", "words", "tag", "text", "like", "lasso")
_LASSO = re.compile(r"\d{1,4}\.\d{1,4}(\.\d{1,4}\.\d{1,4}){2,}", re.ASCII)


@dataclass(frozen=True)
class Query:
    """Every value is one that the gallery knows, whatever the address said."""

    show: str = "all"
    """One of STATES."""
    reason: str = ""
    """One of FILTERS, or empty."""
    source: str = ""
    words: str = ""
    """All of them in the prompts."""
    tag: str = ""
    """Between commas in the simple prompt."""
    text: str = ""
    """What the images are to show, by CLIP."""
    like: str = ""
    """Id of the image that they are to be like, by CLIP."""
    lasso: str = ""
    """What was drawn around them on the map: x and y of each corner, with dots between."""
    sort: str = "collected"
    """One of SORTS; not heeded with `text` and `like`, which sort by themselves."""
    order: str = "down"
    """One of ORDERS: the highest score first, or the lowest."""
    page: int = 1

    @property
    def by_clip(self) -> bool:
        """Whether CLIP is needed, and sorts."""
        return bool(self.text or self.like)

    @property
    def polygon(self) -> npt.NDArray[np.float32]:
        """The lasso's corners ``[corners, 2]``."""
        return np.array(self.lasso.split("."), np.float32).reshape(-1, 2)

    def url(self, at: str = "/", **changes: Any) -> str:
        """The gallery's address for this query with changes, back on its first page; or that of
        another page for the same samples."""
        changed = replace(self, **({"page": 1} | changes))
        usual = asdict(Query())
        told = {name: value for name, value in asdict(changed).items() if value != usual[name]}
        return f"{at}?{urlencode(told)}" if told else at


def parse(asked: Mapping[str, str]) -> Query:
    """The query of an address; what is unknown there is left out."""
    given = {
        field.name: asked[field.name].strip()[:_MAX_CHARS]
        for field in fields(Query)
        if field.name in asked and field.name != "page"
    }
    choices: dict[str, Any] = {"show": STATES, "reason": FILTERS, "sort": SORTS, "order": ORDERS}
    for name, known in choices.items():
        if given.get(name) not in known:
            given.pop(name, None)
    if not is_id(given.get("like", "")):
        given.pop("like", None)
    if not _LASSO.fullmatch(given.get("lasso", "")):
        given.pop("lasso", None)
    page = asked.get("page", "")
    number = int(page) if page.isascii() and page.isdigit() and len(page) < 10 else 1
    return Query(**given, page=max(1, number))


def misread(asked: Mapping[str, str]) -> list[str]:
    """The filters of an address that :func:`parse` leaves out or cuts, by name: without them it
    finds more than was asked for."""
    query = parse(asked)
    return [
        name for name in _NARROWING if asked.get(name, "").strip() not in ("", getattr(query, name))
    ]


def is_id(text: str) -> bool:
    """Whether it has the form of a sample's id."""
    return len(text) == 32 and set(text) <= set("0123456789abcdef")
