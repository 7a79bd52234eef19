"""What lies beside an image: its own text and JSON files, and the tables that name it.

The names are those of kohya's trainers, webui, SwarmUI, downloaders, and Hugging Face's imagefolder
(https://huggingface.co/docs/datasets/image_dataset#imagefolder).
"""

from __future__ import annotations

import logging
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import lru_cache, reduce
from typing import Any

from surd.files.text_encoding import decode_text
from surd.files.text_rows import json_object, table_rows
from surd.sources.sidecar import NOTHING, PROMPT_KEYS, Sidecar, from_fields
from surd.sources.text_file import read_json, read_text
from surd.untrusted import parse_json

Read = Callable[[str], "bytes | None"]
"""Bytes of a file by relative path: None when it is not there, OSError when it is unreadable."""
Names = Callable[[str], Iterable[str]]
"""Names of the files in a folder by relative path; the top is the empty string."""

METADATA_FILE = "metadata.jsonl"
FILE_KEYS = (
    *("file_name", "filename", "file", "file_path", "filepath", "path"),
    *("image", "image_path", "image_file", "image_name", "img", "img_path", "name"),
)
"""What a row of a table calls the name of an image."""
_TEXTS = {".txt": None, ".text": None, ".caption": "caption", ".cap": "caption", ".tags": "tags",
          ".prompt": "prompt"}  # fmt: skip
"""Suffix of a text file -> what it is called; None: it is what it looks like."""
_INFIX = re.compile(r"[._-](meta|metadata|info|caption|captions|prompt|prompts|tags|swarm)$", re.I)
_TABLE = re.compile(
    r"(?:metadata|meta|captions?|prompts?)(?:[_.-].*)?\.(?:jsonl|ndjson|json|csv|tsv)",
    re.IGNORECASE,
)
_FOLDERS_KEPT = 16

log = logging.getLogger("surd")


def names_of(file: str) -> tuple[str, str, str | None] | None:
    """Of a file that may lie beside an image: the image's name with or without its suffix, its own
    suffix in lower case, and what it is called. None for any other file."""
    stem, suffix = posixpath.splitext(file)
    suffix = suffix.lower()
    if suffix not in _TEXTS and suffix != ".json":
        return None
    infix = _INFIX.search(stem)
    called = _TEXTS.get(suffix)
    if infix is not None:
        stem = stem[: infix.start()]
        word = infix[1].lower().removesuffix("s")
        called = called or {"caption": "caption", "prompt": "prompt", "tag": "tags"}.get(word)
    return stem, suffix, called


def is_table(file: str) -> bool:
    """Whether a file's name is that of a table of images and captions."""
    return bool(_TABLE.fullmatch(posixpath.basename(file)))


class Sidecars:
    """What lies beside the images of one folder or archive.

    Every text file, JSON file and table that names the image is read. Fields called prompt come
    first, then what is inside the image, then the words of text files.
    """

    def __init__(self, read: Read, names: Names, top: str = "") -> None:
        """``top`` is the name of the folder that paths are relative to."""
        self._read = read
        self._top = top
        self._files = lru_cache(_FOLDERS_KEPT)(lambda folder: _by_stem(names(folder)))
        self._tables: dict[str, list[_Table]] = {}
        self._left: list[_Table] = []
        self._names = names

    def tell_unused(self, *, at_end: bool = False) -> None:
        """Tell of rows in vain in the tables whose folders have been left, or in all of them.

        It is for who asks for every image of a folder, one folder after another.
        """
        if at_end:
            self._left += [table for tables in self._tables.values() for table in tables]
        for table in self._left:
            table.tell_unused()
        self._left.clear()

    def files_of(self, name: str) -> list[str]:
        """Paths of the files that are read for the image ``name``."""
        folder = posixpath.dirname(name)
        beside = [posixpath.join(folder, other) for other, *_ in self._beside(name)]
        return [*beside, *(table.path for table, _ in self._rows(name))]

    def of(self, name: str) -> tuple[Sidecar, Sidecar]:
        """What the fields beside the image ``name`` say, and what the words do; what cannot be
        read is told in the settings."""
        folder = posixpath.dirname(name)
        fields = words = NOTHING
        for other, suffix, called in self._beside(name):
            try:
                data = self._read(posixpath.join(folder, other))
                if data is None:
                    continue
                if suffix == ".json":
                    fields = fields.over(read_json(parse_json(decode_text(data))))
                else:
                    words = words.over(read_text(decode_text(data), called))
            except (OSError, ValueError) as error:
                problem = {"sidecar_error": f"{other}: {error}"}
                words = words.over(Sidecar(settings=problem))
        for _, rows in self._rows(name):
            fields = fields.over(_said_by(rows))
        return fields, words

    def _beside(self, name: str) -> Iterator[tuple[str, str, str | None]]:
        """Names in the image's folder, their suffixes and what they are called."""
        folder, file = posixpath.split(name)
        stem = posixpath.splitext(file)[0]
        beside = self._files(folder)
        for found in beside.get(file, ()), beside.get(stem, ()) if stem != file else ():
            yield from (other for other in found if other[0] != file)

    def _rows(self, name: str) -> list[tuple[_Table, list[Any]]]:
        """The nearest table that names the image, in its folder or above, and the rows; or none."""
        folders = list(_folders_of(name))
        before = self._tables
        self._tables = {
            folder: before.pop(folder) if folder in before else self._load(folder)
            for folder in folders
        }
        self._left += [table for tables in before.values() for table in tables]
        for folder in folders:
            for table in self._tables[folder]:
                inside = posixpath.relpath(name, folder or ".")
                own = posixpath.basename(folder) or self._top
                rows = table.rows(inside, own)
                if rows:
                    return [(table, rows)]
        return []

    def _load(self, folder: str) -> list[_Table]:
        tables = []
        for file in sorted(self._names(folder)):
            if is_table(file):
                path = posixpath.join(folder, file)
                try:
                    tables.append(_Table(path, decode_text(self._read(path) or b"")))
                except OSError as error:
                    log.warning("%s: %s; use a table source to read it line by line", path, error)
                except ValueError as error:
                    log.warning("%s: %s", path, error)
        return tables


def _by_stem(names: Iterable[str]) -> dict[str, list[tuple[str, str, str | None]]]:
    """Stem -> the files that may lie beside an image of that name, in the order they are read."""
    found: dict[str, list[tuple[str, str, str | None]]] = {}
    order = [*_TEXTS, ".json"]
    for name in sorted(names):
        parts = names_of(name)
        if parts is not None:
            found.setdefault(parts[0], []).append((name, *parts[1:]))
    for files in found.values():
        files.sort(key=lambda file: order.index(file[1]))
    return found


class _Table:
    """Rows by the name of their file, lines of JSON unparsed since that is smaller."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self._rows: dict[str, list[Any]] = {}
        self._unused: set[str] = set()
        self._absolute: dict[str, list[str]] = {}
        """Last part of a path that is absolute -> such paths."""
        bad: list[int] = []
        for number, name, row in _named_rows(path, text):
            if name is None:
                bad.append(number)
                continue
            name = posixpath.normpath(name.strip().replace("\\", "/"))
            self._rows.setdefault(name, []).append(row)
            if name.startswith("/") or name[1:3] == ":/":
                for last in {
                    posixpath.basename(name),
                    posixpath.splitext(posixpath.basename(name))[0],
                }:
                    self._absolute.setdefault(last, []).append(name)
        self._unused.update(self._rows)
        if bad:
            reason = "no row with the name of a file"
            log.warning("%s: line %d: %s; %d such lines skipped", path, bad[0], reason, len(bad))

    def rows(self, inside: str, folder: str) -> list[Any]:
        """Rows of the image at ``inside`` of the table's folder, which is called ``folder``."""
        stem = posixpath.splitext(inside)[0]
        for name in (inside, f"{folder}/{inside}", stem, f"{folder}/{stem}"):
            if name in self._rows:
                return self._use(name)
        for last in (posixpath.basename(inside), posixpath.basename(stem)):
            for name in self._absolute.get(last, ()):
                if f"{name}/".endswith((f"/{inside}/", f"/{stem}/")):
                    return self._use(name)
        return []

    def _use(self, name: str) -> list[Any]:
        self._unused.discard(name)
        return self._rows[name]

    def tell_unused(self) -> None:
        """One line, if there are rows that no image took."""
        if self._unused:
            log.warning(
                "%s: the rows of %d of %d names were not used, such as %s: no image of that "
                "name is here, or a nearer table has it",
                self.path,
                len(self._unused),
                len(self._rows),
                min(self._unused),
            )


def _named_rows(path: str, text: str) -> Iterator[tuple[int, str | None, Any]]:
    """Number, file name and content of each row; no name where there is none.

    Raises ValueError for a file of JSON that is none.
    """
    suffix = posixpath.splitext(path)[1].lower()
    if suffix in (".jsonl", ".ndjson"):
        for number, line in enumerate(text.split("\n"), 1):
            if line.strip():
                row = json_object(line)
                yield number, None if isinstance(row, str) else _file_name(row), line
    elif suffix == ".json":
        value = parse_json(text)
        if isinstance(value, dict):  # kohya's: the image's path -> its fields
            objects = {name: row for name, row in value.items() if isinstance(row, dict | str)}
            for number, (name, row) in enumerate(objects.items(), 1):
                yield number, name, row if isinstance(row, dict) else {"caption": row}
        elif isinstance(value, list):
            for number, row in enumerate(value, 1):
                yield number, _file_name(row) if isinstance(row, dict) else None, row
    else:
        for number, cells in table_rows(text, (*FILE_KEYS, *PROMPT_KEYS, "text", "caption")):
            yield number, None if isinstance(cells, str) else _file_name(cells), cells


def _file_name(row: dict[str, Any]) -> str | None:
    lower = {str(key).lower(): key for key in reversed(row)}
    values = (row[lower[key]] for key in FILE_KEYS if key in lower)
    return next((value for value in values if isinstance(value, str) and value.strip()), None)


def _said_by(rows: list[Any]) -> Sidecar:
    """What the rows of one image say, the first first."""
    said = [_said(row) for row in rows]
    captions = tuple(text for one in said for text in one.captions)
    others = (replace(one, captions=()) for one in said)
    return replace(reduce(Sidecar.over, others), captions=captions)


def _said(row: Any) -> Sidecar:
    """What a row says; its file name is no setting."""
    fields = parse_json(row) if isinstance(row, str) else row
    name = _file_name(fields)
    rest = {
        key: value
        for key, value in fields.items()
        if not (key.lower() in FILE_KEYS and value == name) and value not in (None, "")
    }
    return from_fields(rest)


def _folders_of(name: str) -> Iterator[str]:
    """Folders above ``name``, nearest first; the top is the empty string."""
    folder = posixpath.dirname(name)
    while folder not in ("", "/"):
        yield folder
        folder = posixpath.dirname(folder)
    yield ""
