"""A folder or zip of generated images, with metadata inside the files or captions beside them."""

from __future__ import annotations

import hashlib
import logging
import os
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from lzma import LZMAError
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import quote_from_bytes, unquote_to_bytes

from pydantic import Field

from surd.errors import SourceError
from surd.sources import metadata
from surd.sources.record import Page, Record, SourceParams
from surd.sources.sidecar import Sidecar, Sidecars

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
PAGE_RECORDS = 100

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
    """PNG, JPEG and WebP files of a folder or a zip, in the bytewise order of their paths.

    Hidden files, ``__MACOSX``, and links that lead out of the folder are left alone; linked
    folders are not entered.
    """

    kind: Literal["folder"] = "folder"
    path: str = Field(min_length=1, description="folder, or .zip archive (never unpacked)")
    recursive: bool = Field(default=True, description="include subfolders")
    captions: Literal["auto", "sidecar", "metadata"] = Field(
        default="auto",
        description="sidecar: only files beside the image (name.txt, name.caption, name.json, "
        "metadata.jsonl); metadata: only what the generator wrote into the image; auto: the "
        "sidecar, plus the metadata for whatever the sidecar lacks",
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

    def names(self, start: bytes) -> Iterator[str]:
        """Images whose path is ``start`` or comes after it, in bytewise order."""

    def read(self, name: str) -> bytes | None:
        """All bytes; None when there is no such file, OSError when unreadable or too large."""

    def locate(self, name: str) -> str:
        """What ``Record.path`` says of the file."""


def pages(params: FolderSource, cursor: str | None) -> Iterator[Page]:
    """Records in path order; the cursor is the percent-encoded path of a page's first file."""
    with _open(params) as files:
        sidecars = Sidecars(files.read)
        names = files.names(unquote_to_bytes(cursor or ""))
        batches = iter(lambda: list(islice(names, PAGE_RECORDS)), [])
        count = 0
        for count, batch in enumerate(batches, 1):
            here = cursor if count == 1 else quote_from_bytes(os.fsencode(batch[0]))
            yield Page(here, [_record(params, files, sidecars, name) for name in batch])
        if cursor is None and count == 0:
            log.warning("%s: no PNG, JPEG or WebP files", params.path)


def _record(params: FolderSource, files: _Files, sidecars: Sidecars, name: str) -> Record:
    key, said = _read(params, files, sidecars, name)
    return Record(
        key=key,
        source_id=name,
        path=files.locate(name),
        prompt=said.prompt,
        negative_prompt=said.negative_prompt,
        simple_prompt=said.simple_prompt,
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
    said = sidecars.of(name) if params.captions != "metadata" else Sidecar()
    if params.captions != "sidecar":
        found = metadata.read(data)
        said = said.over(Sidecar(found.prompt, found.negative_prompt, found.model, found.settings))
    return hashlib.sha256(data).hexdigest(), said


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


def _too_large(max_bytes: int) -> OSError:
    return OSError(f"more than {max_bytes} bytes")


class _Folder:
    def __init__(self, root: Path, params: FolderSource) -> None:
        self._root = root
        self._real_root = root.resolve()
        self._params = params

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
        for name in sorted(found, key=os.fsencode):
            path = os.fsencode(name)
            if not name.endswith("/"):
                if path >= start and _is_image(name) and self._is_file(self._root / name):
                    yield name
            elif self._enters(name) and (path >= start or start.startswith(path)):
                yield from self._walk(name, start)

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

    def names(self, start: bytes) -> Iterator[str]:
        names = [name for name in self._members if _is_image(name)]
        for name in names:
            if self._members[name].flag_bits & 1:
                raise SourceError(
                    f"{self._params.path}: {name} is encrypted; unpack the archive and name "
                    "the folder"
                )
        for name in sorted(names, key=os.fsencode):
            if os.fsencode(name) >= start and (self._params.recursive or "/" not in name):
                yield name

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
