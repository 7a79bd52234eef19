"""A folder or zip of generated images, with metadata inside the files or captions beside them."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Literal
from urllib.parse import quote_from_bytes, unquote_to_bytes

from pydantic import Field

from surd.sources import metadata
from surd.sources.beside import Sidecars
from surd.sources.folder_files import Files, Folder, open_files
from surd.sources.in_processes import in_processes
from surd.sources.record import Page, Record, Seen, SourceParams
from surd.sources.sidecar import NOTHING, Sidecar, together

PAGE_RECORDS = 100
_PAGES_ALONE = 10
"""So many are read before it pays to start processes, of which there are at most _PROCESSES."""
_PROCESSES = 4

Read = tuple[str, "Sidecar | None"]
"""Key of an image, and what it says itself; None where it cannot be read."""

log = logging.getLogger("surd")


class FolderSource(SourceParams):
    """Image files of a folder or a zip, in the bytewise order of their paths.

    Hidden files, ``__MACOSX``, folders inside that surd wrote (exports, datasets, workspaces), and
    links that lead out of the folder are left alone; linked folders are not entered. What is passed
    over is counted.
    """

    kind: Literal["folder"] = "folder"
    path: str = Field(min_length=1, description="folder, or .zip archive (never unpacked)")
    recursive: bool = Field(default=True, description="include subfolders")
    captions: Literal["auto", "sidecar", "metadata"] = Field(
        default="auto",
        description="sidecar: only files beside the image (name.txt, name.caption, name.json, "
        "metadata.jsonl, ...); metadata: only what the generator wrote into the image; auto: "
        "both, where the image's own prompt makes a plain caption the simple prompt",
    )
    author: str | None = Field(default=None, description="author of all images")
    licence: str | None = Field(default=None, description="licence of all images")
    max_bytes: int = Field(
        default=100_000_000,
        gt=0,
        description="larger files are not read, and their records have no metadata",
    )


def pages(params: FolderSource, cursor: str | None) -> Iterator[Page]:
    """Records in path order; the cursor is the percent-encoded path of a page's first file."""
    with open_files(params) as files:
        sidecars = Sidecars(files.read, files.beside, Path(params.path).absolute().name)
        walked = []

        def names_of_pages() -> Iterator[list[str]]:
            for page in _walk(files, cursor):
                walked.append(page)
                yield page[1]

        is_empty = True
        for images in _read_pages(params, files, names_of_pages()):
            here, names, seen = walked.pop(0)
            is_empty = is_empty and not names
            records = [
                _record(params, files, sidecars, name, *image)
                for name, image in zip(names, images, strict=True)
            ]
            if cursor is None:  # else earlier rows were taken in another run
                sidecars.tell_unused()
            yield Page(here, records, seen)
        if cursor is None:
            sidecars.tell_unused(at_end=True)
        if cursor is None and is_empty:
            log.warning("%s: no image files", params.path)


def _walk(files: Files, cursor: str | None) -> Iterator[tuple[str | None, list[str], Seen]]:
    """Of each page its cursor, the paths of its images, and what was met on the way."""
    here = cursor
    names: list[str] = []
    seen = Seen()
    for name in files.names(unquote_to_bytes(cursor or "")):
        seen.add(files.seen.take())
        if len(names) == PAGE_RECORDS:
            seen.files -= 1  # the image that begins the next page
            yield here, names, seen.take()
            seen.files += 1
            here, names = quote_from_bytes(os.fsencode(name)), []
        names.append(name)
    seen.add(files.seen.take())
    if names or seen.files or seen.passed:
        yield here, names, seen.take()


def _read_pages(
    params: FolderSource, files: Files, pages: Iterator[list[str]]
) -> Iterator[list[Read]]:
    """The images of each page, read by several processes where there are many."""
    read = partial(_read, files, params.captions != "sidecar")
    yield from map(read, islice(pages, _PAGES_ALONE))
    processes = min(os.cpu_count() or 1, _PROCESSES)
    if processes > 1 and isinstance(files, Folder):
        yield from in_processes(read, pages, processes)
    else:
        yield from map(read, pages)


def _read(files: Files, with_metadata: bool, names: Iterable[str]) -> list[Read]:
    return [_read_one(files, with_metadata, name) for name in names]


def _read_one(files: Files, with_metadata: bool, name: str) -> Read:
    try:
        data = files.read(name)
    except OSError:
        data = None
    if data is None:
        return hashlib.sha256(os.fsencode(name)).hexdigest(), None
    own = NOTHING
    if with_metadata:
        found = metadata.read(data)
        own = Sidecar(found.prompt, found.negative_prompt, found.model, found.settings)
    return hashlib.sha256(data).hexdigest(), own


def _record(
    params: FolderSource,
    files: Files,
    sidecars: Sidecars,
    name: str,
    key: str,
    own: Sidecar | None,
) -> Record:
    said = Sidecar()
    if own is not None:
        beside = params.captions != "metadata"
        fields, words = sidecars.of(name) if beside else (NOTHING, NOTHING)
        said = together(fields, own, words)
    return Record(
        key=key,
        source_id=name,
        path=files.locate(name),
        prompt=said.prompt,
        negative_prompt=said.negative_prompt,
        simple_prompt=said.simple_prompt,
        captions=said.captions,
        model=said.model,
        author=params.author,
        licence=params.licence,
        settings=said.settings,
    )
