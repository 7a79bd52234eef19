"""Reading a source of local files to its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from surd.sources.record import Page, Record, SourceParams

Pages = Callable[..., list[Page]]
Records = Callable[..., list[Record]]


def readers(
    source: type[SourceParams], pages: Callable[[Any, str | None], Iterator[Page]]
) -> tuple[Pages, Records]:
    """Two functions from a path, and what else a recipe may say: to all pages from a cursor on,
    and to all records."""

    def all_pages(path: object, cursor: str | None = None, **options: Any) -> list[Page]:
        return list(pages(source(path=str(path), **options), cursor))

    def records(path: object, **options: Any) -> list[Record]:
        return [record for page in all_pages(path, **options) for record in page.records]

    return all_pages, records
