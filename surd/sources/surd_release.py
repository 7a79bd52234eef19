"""The published SURD release: an imagefolder of the Hub, with its ``metadata.jsonl``.

A line has ``file_name``, ``text`` (the simple prompt) and ``prompt`` (the complex prompt).
https://huggingface.co/docs/datasets/image_dataset#imagefolder
"""

from __future__ import annotations

import logging
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from surd.errors import SourceError
from surd.files.formats import IMAGE_SUFFIXES
from surd.sources.beside import METADATA_FILE
from surd.sources.paging import Numbered, files_from, find_files, paged
from surd.sources.record import Page, Record, Seen, SourceParams
from surd.sources.sidecar import from_fields
from surd.sources.table_rows import open_table

SUFFIXES = ("", *IMAGE_SUFFIXES)
"""What a ``file_name`` may lack."""

log = logging.getLogger("surd")


class SurdReleaseSource(SourceParams):
    """Lines of every ``metadata.jsonl`` in a folder and its subfolders, and their images.

    A sample's key is its ``file_name``, without the suffix of an image. Lines that name no file
    inside their folder are skipped and counted.
    """

    kind: Literal["surd_release"] = "surd_release"
    path: str = Field(
        min_length=1, description="folder with metadata.jsonl, possibly in subfolders such as train"
    )
    author: str | None = Field(default=None, description="author of all images")
    licence: str | None = Field(default=None, description="licence of all images")


def pages(params: SurdReleaseSource, cursor: str | None) -> Iterator[Page]:
    """Records in the order of files and lines; a cursor names a file and counts its lines."""
    tables = find_files(params.path, (f"/{METADATA_FILE}",), METADATA_FILE)
    seen = Seen()
    return paged(_records(params, files_from(tables, cursor, params.path), seen), cursor, seen)


def _records(
    params: SurdReleaseSource, tables: Iterator[tuple[str, Path, int]], seen: Seen
) -> Iterator[Numbered]:
    for name, path, start in tables:
        seen.files += not start
        skipped, first = 0, ""
        folder = posixpath.dirname(name)
        try:
            for number, row in open_table(path, "jsonl").rows(start, ()):
                try:
                    if isinstance(row, str):
                        raise ValueError(row)
                    record = _record(params, folder, path.parent, dict(row))
                except ValueError as error:
                    where = "" if isinstance(row, str) else f"line {number + 1}: "
                    skipped, first = skipped + 1, first or f"{where}{error}"
                    seen.pass_over("bad row of a table", f"{name}: {where}{error}")
                else:
                    yield name, number, record
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
        finally:
            if skipped:
                log.warning("%s: %s; %d such lines skipped", path, first, skipped)


def _record(params: SurdReleaseSource, folder: str, root: Path, row: dict[str, Any]) -> Record:
    """Record of one line. Raises ValueError for one without a usable ``file_name``."""
    file_name = row.pop("file_name", None)
    if not isinstance(file_name, str) or not file_name.strip():
        raise ValueError("file_name is missing")
    inside = posixpath.normpath(file_name)
    if inside.startswith(("/", "../")) or inside == ".." or "\0" in inside or "\\" in inside:
        raise ValueError(f"file_name {file_name!r} leads out of its folder")
    said = from_fields(row).settled()
    return Record(
        key=posixpath.join(folder, _stem(inside)),
        source_id=file_name,
        path=str(_locate(root, inside)),
        prompt=said.prompt,
        negative_prompt=said.negative_prompt,
        simple_prompt=said.simple_prompt,
        captions=said.captions,
        author=params.author,
        licence=params.licence,
        model=said.model,
        settings=said.settings,
    )


def _stem(name: str) -> str:
    suffix = posixpath.splitext(name)[1]
    return name.removesuffix(suffix) if suffix.lower() in SUFFIXES else name


def _locate(root: Path, name: str) -> Path:
    """The image's file; where there is none, what it would be called."""
    real_root = root.resolve()
    for suffix in SUFFIXES:
        path = root / f"{name}{suffix}"
        try:
            if path.is_file():
                if not path.resolve().is_relative_to(real_root):
                    raise ValueError(f"file_name {name!r} is a link out of its folder")
                return path
        except (OSError, RuntimeError) as error:  # too long a name; a circle of links
            raise ValueError(f"file_name {name[:100]!r} is no file's name") from error
    return root / name
