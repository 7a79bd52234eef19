"""The explicit table of sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from surd.sources import (
    civitai,
    diffusiondb,
    folder,
    huggingface,
    lexica,
    stable_diffusion_online,
    surd_release,
    table,
    webdataset,
)
from surd.sources.civitai import CivitaiSource
from surd.sources.diffusiondb import DiffusionDbSource
from surd.sources.folder import FolderSource
from surd.sources.huggingface import HuggingFaceSource
from surd.sources.lexica import LexicaSource
from surd.sources.record import Page, SourceParams
from surd.sources.stable_diffusion_online import StableDiffusionOnlineSource
from surd.sources.surd_release import SurdReleaseSource
from surd.sources.table import TableSource
from surd.sources.webdataset import WebDatasetSource

Source = Annotated[
    CivitaiSource
    | LexicaSource
    | StableDiffusionOnlineSource
    | DiffusionDbSource
    | FolderSource
    | TableSource
    | WebDatasetSource
    | HuggingFaceSource
    | SurdReleaseSource,
    Field(discriminator="kind"),
]

SOURCES: dict[str, tuple[type[SourceParams], Callable[[Any, str | None], Iterator[Page]]]] = {
    "civitai": (CivitaiSource, civitai.pages),
    "lexica": (LexicaSource, lexica.pages),
    "stable_diffusion_online": (StableDiffusionOnlineSource, stable_diffusion_online.pages),
    "diffusiondb": (DiffusionDbSource, diffusiondb.pages),
    "folder": (FolderSource, folder.pages),
    "table": (TableSource, table.pages),
    "webdataset": (WebDatasetSource, webdataset.pages),
    "huggingface": (HuggingFaceSource, huggingface.pages),
    "surd_release": (SurdReleaseSource, surd_release.pages),
}
"""Kind -> its parameters, and the function that reads its pages from a cursor on."""


def is_local(params: SourceParams) -> bool:
    """Whether a source is files of this machine, as far as its path tells."""
    path = getattr(params, "path", None)
    if not isinstance(path, str) or "://" in path:
        return False
    return not isinstance(params, HuggingFaceSource) or Path(path).expanduser().exists()
