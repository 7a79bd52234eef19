"""A folder or zip of generated images, with metadata inside the files or captions beside them."""

from __future__ import annotations

import hashlib
import logging
import os
import posixpath
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from lzma import LZMAError
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import quote_from_bytes, unquote_to_bytes

from pydantic import Field

from surd.errors import SourceError
from surd.files.formats import IMAGE_SUFFIXES
from surd.sources import metadata
from surd.sources.beside import Sidecars, is_table, names_of
from surd.sources.record import Page, Record, Seen, SourceParams
from surd.sources.sidecar import Sidecar, together

PAGE_RECORDS = 100
_FOLDERS_KEPT = 16

_ZIP_ERRORS = (
    zipfile.BadZipFile,
    zlib.error,
    LZMAError,
    EOFError,
    RuntimeError,  # encrypted, or a method this Python lacks
    ValueError,
)
"""What reading a damaged or unusual archive raises, besides OSError."""

log = logging.getLogger("surd")


class FolderSource(SourceParams):
    """Image files of a folder or a zip, in the bytewise order of their paths.

    Hidden files, ``__MACOSX``, and links that lead out of the folder are left alone; linked
    folders are not entered. What is passed over is counted.
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


class _Files(Protocol):
    """Files by their path relative to the top, with ``/`` between its parts."""

    seen: Seen
    """What ``names`` has met since it was last taken."""

    def names(self, start: bytes) -> Iterator[str]:
        """Images whose path is ``start`` or comes after it, in bytewise order."""

    def beside(self, folder: str) -> Sequence[str]:
        """Names of the visible files in a folder."""

    def read(self, name: str) -> bytes | None:
        """All bytes; None when there is no such file, OSError when unreadable or too large."""

    def locate(self, name: str) -> str:
        """What ``Record.path`` says of the file."""


def pages(params: FolderSource, cursor: str | None) -> Iterator[Page]:
    """Records in path order; the cursor is the percent-encoded path of a page's first file."""
    with _open(params) as files:
        sidecars = Sidecars(files.read, files.beside, Path(params.path).absolute().name)
        here = cursor
        names: list[str] = []
        seen = Seen()

        def page() -> Page:
            records = [_record(params, files, sidecars, name) for name in names]
            return Page(here, records, seen.take())

        is_empty = True
        for name in files.names(unquote_to_bytes(cursor or "")):
            seen.add(files.seen.take())
            if len(names) == PAGE_RECORDS:
                seen.files -= 1  # the image that begins the next page
                yield page()
                seen.files += 1
                here, names = quote_from_bytes(os.fsencode(name)), []
            names.append(name)
            is_empty = False
        seen.add(files.seen.take())
        if names or seen.files:
            yield page()
        if cursor is None and is_empty:
            log.warning("%s: no image files", params.path)


def _record(params: FolderSource, files: _Files, sidecars: Sidecars, name: str) -> Record:
    key, said = _read(params, files, sidecars, name)
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


def _read(
    params: FolderSource, files: _Files, sidecars: Sidecars, name: str
) -> tuple[str, Sidecar]:
    """Key of one image and what is said of it; of an unreadable one nothing but a key."""
    try:
        data = files.read(name)
    except OSError:
        data = None
    if data is None:
        return hashlib.sha256(os.fsencode(name)).hexdigest(), Sidecar()
    fields, words = sidecars.of(name) if params.captions != "metadata" else (Sidecar(), Sidecar())
    own = Sidecar()
    if params.captions != "sidecar":
        found = metadata.read(data)
        own = Sidecar(found.prompt, found.negative_prompt, found.model, found.settings)
    return hashlib.sha256(data).hexdigest(), together(fields, own, words)


@contextmanager
def _open(params: FolderSource) -> Iterator[_Files]:
    try:
        path = Path(params.path).expanduser().absolute()
        archive = None if path.is_dir() else zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise SourceError(
            f"{params.path}: no such folder or .zip file; correct the source's path"
        ) from error
    except (OSError, *_ZIP_ERRORS) as error:
        raise SourceError(
            f"{params.path}: neither a folder nor a readable zip ({error}); copy it again, or "
            "unpack it"
        ) from error
    if archive is None:
        yield _Folder(path, params)
    else:
        with archive:
            yield _Zip(path, archive, params)


def _is_visible(name: str) -> bool:
    """Neither hidden, nor a Mac's shadow of a file, nor inside a folder that is."""
    parts = name.split("/")
    hidden = any(part.startswith(".") and part not in (".", "..") for part in parts)
    return not hidden and "__MACOSX" not in parts


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and _is_visible(name)


def _count(seen: Seen, name: str, images: frozenset[str]) -> None:
    """Count a file that is no image: beside one, or passed over for its suffix or its place."""
    seen.files += 1
    file = posixpath.basename(name)
    parts = names_of(file)
    if is_table(file) or (parts is not None and parts[0] in images):
        return
    if not _is_visible(name):
        seen.pass_over("hidden", name)
    elif parts is not None:
        seen.pass_over(f"{parts[1]} of no image", name)
    else:
        seen.pass_over(posixpath.splitext(file)[1].lower() or "no suffix", name)


def _stems(siblings: Sequence[str]) -> frozenset[str]:
    """Names of the images in a folder, with and without their suffixes."""
    images = [name for name in siblings if _is_image(name)]
    return frozenset([*images, *(posixpath.splitext(name)[0] for name in images)])


def _too_large(max_bytes: int) -> OSError:
    return OSError(f"more than {max_bytes} bytes")


class _Folder:
    def __init__(self, root: Path, params: FolderSource) -> None:
        self._root = root
        self._real_root = root.resolve()
        self._params = params
        self.seen = Seen()
        self.beside = lru_cache(_FOLDERS_KEPT)(self._files_in)

    def names(self, start: bytes) -> Iterator[str]:
        try:
            os.scandir(self._root).close()
        except OSError as error:
            raise SourceError(
                f"{self._params.path}: {error.strerror}; make the folder readable"
            ) from error
        return self._walk("", start)

    def _walk(self, prefix: str, start: bytes) -> Iterator[str]:
        """Paths below ``prefix``. A folder sorts by its name and ``/``, as its files' paths do."""
        try:
            with os.scandir(self._root / prefix) as entries:
                found = [
                    prefix + entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
                    for entry in entries
                ]
        except OSError as error:
            log.warning("%s: %s; folder skipped", self._root / prefix, error.strerror)
            return
        siblings = [name for name in found if not name.endswith("/")]
        stems = _stems([name.removeprefix(prefix) for name in siblings])
        for name in sorted(found, key=os.fsencode):
            path = os.fsencode(name)
            if name.endswith("/"):
                if self._enters(name) and (path >= start or start.startswith(path)):
                    yield from self._walk(name, start)
            elif path >= start and not _is_image(name):
                _count(self.seen, name, stems)
            elif path >= start:
                self.seen.files += 1
                if self._is_file(self._root / name):
                    yield name
                else:
                    self.seen.pass_over("no file, or a link out of the folder", name)

    def _files_in(self, folder: str) -> list[str]:
        try:
            with os.scandir(self._root / folder) as entries:
                return [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
        except OSError:
            return []

    def _enters(self, folder: str) -> bool:
        return self._params.recursive and _is_visible(folder.rstrip("/"))

    def _is_file(self, path: Path) -> bool:
        """A regular file; when it is a link, one to a file inside the folder."""
        try:
            if path.is_symlink() and not path.resolve().is_relative_to(self._real_root):
                return False
            return path.is_file()
        except (OSError, RuntimeError):  # a circle of links is a RuntimeError before Python 3.13
            return False

    def read(self, name: str) -> bytes | None:
        path = self._root / name
        if not self._is_file(path):
            return None
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(min(size, self._params.max_bytes) + 1)
        if len(data) > self._params.max_bytes:
            raise _too_large(self._params.max_bytes)
        return data

    def locate(self, name: str) -> str:
        return str(self._root / name)


class _Zip:
    def __init__(self, path: Path, archive: zipfile.ZipFile, params: FolderSource) -> None:
        self._path = path
        self._archive = archive
        self._params = params
        self._members = {member.filename: member for member in archive.infolist()}
        self._folders: dict[str, list[str]] = {}
        for name in self._members:
            if not name.endswith("/"):
                self._folders.setdefault(posixpath.dirname(name), []).append(
                    posixpath.basename(name)
                )
        self.seen = Seen()

    def names(self, start: bytes) -> Iterator[str]:
        for name, member in self._members.items():
            if member.flag_bits & 1 and _is_image(name):
                raise SourceError(
                    f"{self._params.path}: {name} is encrypted; unpack the archive and name "
                    "the folder"
                )
        stems = {folder: _stems(files) for folder, files in self._folders.items()}
        for name in sorted(self._members, key=os.fsencode):
            wanted = self._params.recursive or "/" not in name
            if name.endswith("/") or os.fsencode(name) < start or not wanted:
                continue
            if _is_image(name):
                self.seen.files += 1
                yield name
            else:
                _count(self.seen, name, stems[posixpath.dirname(name)])

    def beside(self, folder: str) -> Sequence[str]:
        return self._folders.get(folder, ())

    def read(self, name: str) -> bytes | None:
        """Decompresses no further than ``max_bytes``, whatever size the archive claims."""
        member = self._members.get(name)
        if member is None:
            return None
        plain = member.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
        step_bytes = 1 << (16 if plain else 12)  # other methods expand all they are given at once
        data = bytearray()
        try:
            with self._archive.open(member) as file:
                while chunk := file.read(step_bytes):
                    data += chunk
                    if len(data) > self._params.max_bytes:
                        raise _too_large(self._params.max_bytes)
        except _ZIP_ERRORS as error:
            raise OSError(f"damaged in the archive: {error}") from error
        return bytes(data)

    def locate(self, name: str) -> str:
        return f"{self._path}::{name}"
