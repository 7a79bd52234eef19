"""What sources made of local files have in common: finding the files, and paging through them."""

from __future__ import annotations

import glob
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from surd.errors import SourceError
from surd.sources.record import Page, Record, Seen
from surd.untrusted import parse_json

PAGE_RECORDS = 100

Numbered = tuple[str, int, Record]
"""Name of a file, number of an entry in it, and the entry's record."""


def find_files(path: str, suffixes: Sequence[str], what: str) -> list[tuple[str, Path]]:
    """Each file's name below ``path`` and its absolute path, in the bytewise order of the names.

    A suffix that begins with a slash is a whole name.

    ``path`` is a file, a folder (with the folders inside), or a pattern. Hidden files are passed
    over. Raises SourceError when there is no such file.
    """
    start = Path(path).expanduser().absolute()
    try:
        if start.is_file():
            return [(start.name, start)]
        found = start.rglob("*") if start.is_dir() else map(Path, glob.glob(str(start)))
        files = [file for file in found if _is_wanted(file, suffixes)]
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not files:
        there = "contains" if start.is_dir() else "does not exist, or matches"
        raise SourceError(f"{path}: {there} no {what} file; correct the source's path")
    top = start if start.is_dir() else Path(os.path.commonpath([file.parent for file in files]))
    names = [(file.relative_to(top).as_posix(), file) for file in files]
    visible = [(name, file) for name, file in names if not _is_hidden(name)]
    return sorted(visible or names, key=lambda item: os.fsencode(item[0]))


def _is_wanted(file: Path, suffixes: Sequence[str]) -> bool:
    return f"/{file.name.lower()}".endswith(tuple(suffixes)) and file.is_file()


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def paged(
    records: Iterable[Numbered], cursor: str | None, seen: Seen | None = None
) -> Iterator[Page]:
    """Pages of records; the cursor of each but the first of all is the place of its first, and
    those of one entry are on one page.

    ``seen`` is what ``records`` counts as it goes on, which the pages take from it. What comes
    before a SourceError is yielded before it is raised.
    """
    here = cursor
    page: list[Record] = []
    seen = seen or Seen()
    last = None
    try:
        for name, number, record in records:
            is_new, last = (name, number) != last, (name, number)
            if len(page) >= PAGE_RECORDS and is_new:
                yield Page(here, page, seen.take())
                here, page = json.dumps({"file": name, "number": number}), []
            page.append(record)
    except SourceError:
        if page:
            yield Page(here, page, seen.take())
        raise
    if page or seen.passed or seen.files:
        yield Page(here, page, seen.take())


def position(cursor: str | None, path: str) -> tuple[str, int]:
    """The file and the entry at which :func:`paged` is to begin."""
    if cursor is None:
        return "", 0
    try:
        place = parse_json(cursor)
        return str(place["file"]), int(place["number"])
    except (ValueError, TypeError, KeyError) as error:
        raise SourceError(
            f"{path}: {cursor!r} is not a cursor of this source; start again"
        ) from error


def files_from(
    files: Iterable[tuple[str, Path]], cursor: str | None, path: str
) -> Iterator[tuple[str, Path, int]]:
    """The files from the cursor's on, each with the number of the entry to begin with."""
    first, number = position(cursor, path)
    for name, file in files:
        if os.fsencode(name) >= os.fsencode(first):
            yield name, file, number if name == first else 0
