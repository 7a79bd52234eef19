"""Recipes for datasets that are there already: ``surd import KIND PATH -o DIR``."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from surd.errors import SourceError, SurdError
from surd.files.formats import IMAGE_SUFFIXES
from surd.recipe.keys import Recipe
from surd.sources.huggingface import has_images
from surd.sources.kinds import SOURCES

KINDS = {
    "surd": "the published SURD release: a folder with metadata.jsonl",
    "webdataset": "tar shards",
    "img2dataset": "img2dataset's output: webdataset, parquet or files",
    "huggingface": "Parquet files with the images inside; also hf://datasets/ORG/NAME",
    "folder": "images with captions beside them or prompts inside; also a zip archive",
    "table": "CSV, TSV, JSONL or Parquet with urls or paths",
}
"""What can be imported -> what it looks like."""


def import_recipe(kind: str, path: str, name: str | None = None) -> Recipe:
    """The recipe that reads an existing dataset of one of ``KINDS`` from ``path``.

    Raises SurdError with one line for an unknown kind, and when nothing of that kind is there.
    """
    if kind not in KINDS:
        near = difflib.get_close_matches(kind, KINDS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(KINDS)}"
        raise SurdError(f"{kind}: not a kind of dataset that surd imports; {hint}")
    place = path
    if "://" not in path:
        place = str(Path(path).expanduser().absolute())
        there = os.path.exists(place)  # noqa: PTH110  (Path's raises for long names)
        if not there and not set(path) & set("*?["):
            raise SurdError(f"{path}: no such file or folder; correct the path")
    elif kind != "huggingface":
        raise SurdError(f"{path}: {kind} can only be read from the local disk; download it first")
    try:
        source = _SOURCE_OF[kind](place)
    except OSError as error:
        raise SurdError(f"{path}: cannot be read: {error.strerror or error}") from error
    about = {"name": name or _name_of(path), "description": f"Imported from {kind}"}
    recipe = Recipe.model_validate({**about, "sources": [source]})
    _refuse_nothing(recipe, kind, path)
    return recipe


def _name_of(path: str) -> str:
    base = path.rstrip("/").rpartition("/")[2].partition(".")[0]
    return re.sub(r"[^\w-]+", "-", base).strip("-") or "imported"


def _refuse_nothing(recipe: Recipe, kind: str, path: str) -> None:
    """Raise SurdError when the source has not a single record; reads one page."""
    params = recipe.sources[0]
    _, pages = SOURCES[params.kind]
    if not any(page.records for page in pages(params.model_copy(update={"limit": 1}), None)):
        raise SurdError(f"{path}: nothing here that can be imported as {kind} ({KINDS[kind]})")


def _source(kind: str) -> Callable[[str], dict[str, Any]]:
    return lambda path: {"kind": kind, "path": path}


def _img2dataset(path: str) -> dict[str, Any]:
    """The source for whichever format img2dataset wrote; its tables alone are the last choice."""
    files = [Path(path)] if Path(path).is_file() else list(_files_near_the_top(Path(path)))
    shards = [file for file in files if file.suffix.lower() == ".tar"]
    tables = [file for file in files if file.suffix.lower() == ".parquet"]
    if shards:
        return {"kind": "webdataset", "path": path}
    if any(file.suffix.lower() == ".tfrecord" for file in files):
        raise SourceError(f"{path}: TFRecord files; run img2dataset with output_format webdataset")
    if tables and has_images(tables[0]):
        return {"kind": "huggingface", "path": path}
    if any(file.suffix.lower() in IMAGE_SUFFIXES for file in files):
        return {"kind": "folder", "path": path}
    if tables:
        return {"kind": "table", "path": path}
    raise SourceError(
        f"{path}: no .tar, .parquet or image files; is this img2dataset's output_folder?"
    )


def _files_near_the_top(folder: Path) -> Iterator[Path]:
    """Files of a folder, and the first few of each of its subfolders, as img2dataset has them."""
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            yield from sorted(entry.iterdir())[:10]
        else:
            yield entry


_SOURCE_OF: dict[str, Callable[[str], dict[str, Any]]] = {
    "surd": _source("surd_release"),
    "webdataset": _source("webdataset"),
    "img2dataset": _img2dataset,
    "huggingface": _source("huggingface"),
    "folder": _source("folder"),
    "table": _source("table"),
}
