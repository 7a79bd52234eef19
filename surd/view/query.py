"""What a page of the gallery is asked for: read from an address, and written into one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode

import numpy as np
import numpy.typing as npt

from surd.errors import SurdError
from surd.pages.text import visible
from surd.stages.filter.rules import REASONS
from surd.store.manual import REASON
from surd.view.index import SCORES

STATES = ("all", "kept", "dropped", "hand")
SORTS = ("collected", *SCORES)
ORDERS = ("down", "up")
FILTERS = tuple(name for name in REASONS if name != REASON)
"""Reasons that filters give."""
_MAX_CHARS = 1_000
_CHOICES = {"show": STATES, "reason": FILTERS, "sort": SORTS, "order": ORDERS}
_PAGE = re.compile(r"0*[1-9]\d{0,8}", re.ASCII)
_LASSO = re.compile(r"\d{1,4}\.\d{1,4}(\.\d{1,4}\.\d{1,4}){2,}", re.ASCII)


@dataclass(frozen=True)
class Query:
    """Every value is one that the gallery knows."""

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


_KNOWN = tuple(field.name for field in fields(Query))


class QueryError(SurdError):
    """An address that says what the gallery does not know."""


def parse(asked: Iterable[tuple[str, str]]) -> Query:
    """The query of an address. Empty values mean nothing; raises QueryError for all else that would
    show something other than the address says."""
    given: dict[str, Any] = {}
    for name, text in asked:
        value = text.strip()
        if name not in _KNOWN:
            raise QueryError(f"{_short(name)}: no such parameter; there are {', '.join(_KNOWN)}")
        if not value:
            continue
        if name in given and given[name] != value:
            raise QueryError(f"{name}: given twice, as {_short(given[name])} and {_short(value)}")
        if len(value) > _MAX_CHARS:
            raise QueryError(f"{name}: longer than {_MAX_CHARS:,} characters")
        given[name] = value
    for name, value in given.items():
        if expected := _expected(name, value):
            raise QueryError(f"{name}: {_short(value)} is not {expected}")
    return Query(**given | {"page": int(given.get("page", "1"))})


def _expected(name: str, value: str) -> str:
    """What a value should be; empty where it is so."""
    if name in _CHOICES:
        return "" if value in _CHOICES[name] else f"one of {', '.join(_CHOICES[name])}"
    if name == "like":
        return "" if is_id(value) else "the id of a sample"
    if name == "lasso":
        return "" if _LASSO.fullmatch(value) else "a line drawn on the map"
    if name == "page":
        return "" if _PAGE.fullmatch(value) else "the number of a page, from 1 to 999999999"
    return ""


def _short(text: str) -> str:
    return visible(text, 60)


def is_id(text: str) -> bool:
    """Whether it has the form of a sample's id."""
    return len(text) == 32 and set(text) <= set("0123456789abcdef")
