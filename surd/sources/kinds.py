"""The explicit table of sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Annotated, Any

from pydantic import Field

from surd.sources import civitai, folder, table
from surd.sources.civitai import CivitaiSource
from surd.sources.folder import FolderSource
from surd.sources.record import Page, SourceParams
from surd.sources.table import TableSource

Source = Annotated[CivitaiSource | FolderSource | TableSource, Field(discriminator="kind")]

SOURCES: dict[str, tuple[type[SourceParams], Callable[[Any, str | None], Iterator[Page]]]] = {
    "civitai": (CivitaiSource, civitai.pages),
    "folder": (FolderSource, folder.pages),
    "table": (TableSource, table.pages),
}
"""Kind -> its parameters, and the function that reads its pages from a cursor on."""
