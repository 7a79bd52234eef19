"""The image files of a folder or a zip, by their paths below it."""

from __future__ import annotations

import logging
import os
import posixpath
import stat
import zipfile
import zlib
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from lzma import LZMAError
from pathlib import Path, PurePosixPath
from typing import Protocol

from surd.errors import SourceError
from surd.files.archives import PLAIN_ZIP
from surd.files.formats import IMAGE_SUFFIXES
from surd.sources.beside import is_table, names_of
from surd.sources.record import Seen
from surd.store.marks import MARKS, SAYING

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

_OWN = "folder that surd wrote"
"""An export, a dataset or a workspace, which may lie in the folder that its images came from."""

log = logging.getLogger("surd")


class Where(Protocol):
    """What is read, and of it what."""

    @property
    def path(self) -> str:
        """A folder or a zip."""

    @property
    def recursive(self) -> bool:
        """Whether folders inside are read, too."""

    @property
    def max_bytes(self) -> int:
        """Larger files are not read."""


class Files(Protocol):
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


@contextmanager
def open_files(where: Where) -> Iterator[Files]:
    """Raises SourceError for what is neither a folder nor a zip."""
    try:
        path = Path(where.path).expanduser().absolute()
        archive = None if path.is_dir() else zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise SourceError(
            f"{where.path}: no such folder or .zip file; correct the source's path, as with "
            "--set sources.0.path=FOLDER"
        ) from error
    except (OSError, *_ZIP_ERRORS) as error:
        raise SourceError(
            f"{where.path}: neither a folder nor a readable zip ({error}); copy it again, or "
            "unpack it"
        ) from error
    if archive is None:
        yield Folder(path, where)
    else:
        with archive:
            yield _Zip(path, archive, where)


def _is_visible(name: str) -> bool:
    """Neither hidden, nor a Mac's shadow of a file, nor inside a folder that is."""
    parts = name.split("/")
    hidden = any(part.startswith(".") and part not in (".", "..") for part in parts)
    return not hidden and "__MACOSX" not in parts


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES) and _is_visible(name)


def _count(seen: Seen, name: str, images: frozenset[str], *, has_folders: bool) -> None:
    """Count a file that is no image: beside one, or passed over for its suffix or its place."""
    file = posixpath.basename(name)
    if file in SAYING:
        return
    seen.files += 1
    parts = names_of(file)
    if is_table(file) and (images or has_folders):
        return
    if parts is not None and parts[0] in images:
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


def _outermost(folder: str, marked: Collection[str]) -> str | None:
    """Of the folders in `marked`, the highest that `folder` is or lies in."""
    path = PurePosixPath(folder)
    above = (str(one) for one in (*reversed(path.parents), path))
    return next((f"{one}/" for one in above if one in marked), None)


def _too_large(max_bytes: int) -> OSError:
    return OSError(f"more than {max_bytes} bytes")


class Folder:
    """Files of a folder."""

    def __init__(self, root: Path, where: Where) -> None:
        self._root = root
        self._prefix = f"{str(root).rstrip('/')}/"
        self._real_root = root.resolve()
        self._where = where
        self.seen = Seen()
        self.beside = lru_cache(_FOLDERS_KEPT)(self._files_in)

    def __reduce__(self) -> tuple[type[Folder], tuple[Path, Where]]:
        return Folder, (self._root, self._where)

    def names(self, start: bytes) -> Iterator[str]:
        """As Files says; raises SourceError for a folder that cannot be read."""
        try:
            os.scandir(self._root).close()
        except OSError as error:
            raise SourceError(
                f"{self._where.path}: {error.strerror}; make the folder readable"
            ) from error
        return self._walk("", start)

    def _walk(self, prefix: str, start: bytes) -> Iterator[str]:
        """Paths below ``prefix``. A folder sorts by its name and ``/``, as its files' paths do."""
        found, plain = [], set()
        try:
            with os.scandir(self._root / prefix) as entries:
                for entry in entries:
                    is_folder = entry.is_dir(follow_symlinks=False)
                    found.append(prefix + entry.name + ("/" if is_folder else ""))
                    if entry.is_file(follow_symlinks=False):
                        plain.add(found[-1])
        except OSError as error:
            log.warning("%s: %s; folder skipped", self._root / prefix, error.strerror)
            return
        if prefix and not plain.isdisjoint(prefix + mark for mark in MARKS):
            if os.fsencode(prefix) >= start:  # else it was counted with an earlier page
                self.seen.pass_over(_OWN, prefix)
            return
        siblings = [name for name in found if not name.endswith("/")]
        stems = _stems([name.removeprefix(prefix) for name in siblings])
        has_folders = len(siblings) < len(found)
        for name in sorted(found, key=os.fsencode):
            path = os.fsencode(name)
            if name.endswith("/"):
                if self._enters(name) and (path >= start or start.startswith(path)):
                    yield from self._walk(name, start)
            elif path >= start and not _is_image(name):
                _count(self.seen, name, stems, has_folders=has_folders)
            elif path >= start:
                self.seen.files += 1
                if name in plain or self._is_file(self.locate(name)):
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
        return self._where.recursive and _is_visible(folder.rstrip("/"))

    def _is_file(self, path: str) -> bool:
        """A regular file; when it is a link, one to a file inside the folder."""
        try:
            mode = os.lstat(path).st_mode
            if not stat.S_ISLNK(mode):
                return stat.S_ISREG(mode)
            target = Path(path).resolve()
            return target.is_relative_to(self._real_root) and target.is_file()
        except (OSError, RuntimeError):  # a circle of links is a RuntimeError before Python 3.13
            return False

    def read(self, name: str) -> bytes | None:
        """As Files says."""
        path = self.locate(name)
        if not self._is_file(path):
            return None
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(min(size, self._where.max_bytes) + 1)
        if len(data) > self._where.max_bytes:
            raise _too_large(self._where.max_bytes)
        return data

    def locate(self, name: str) -> str:
        """The file's whole path."""
        return f"{self._prefix}{name}"


class _Zip:
    def __init__(self, path: Path, archive: zipfile.ZipFile, where: Where) -> None:
        self._path = path
        self._archive = archive
        self._where = where
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
                    f"{self._where.path}: {name} is encrypted; unpack the archive and name "
                    "the folder"
                )
        stems = {folder: _stems(files) for folder, files in self._folders.items()}
        above = {str(above) for folder in self._folders for above in PurePosixPath(folder).parents}
        marked = {d for d, files in self._folders.items() if d and not MARKS.isdisjoint(files)}
        own = {folder: _outermost(folder, marked) for folder in self._folders} if marked else {}
        passed = set()
        for name in sorted(self._members, key=os.fsencode):
            wrote = own.get(posixpath.dirname(name))
            if wrote is not None:
                if self._where.recursive and wrote not in passed and os.fsencode(wrote) >= start:
                    self.seen.pass_over(_OWN, wrote)
                passed.add(wrote)
                continue
            wanted = self._where.recursive or "/" not in name
            if name.endswith("/") or os.fsencode(name) < start or not wanted:
                continue
            if _is_image(name):
                self.seen.files += 1
                yield name
            else:
                folder = posixpath.dirname(name)
                has_folders = (folder or ".") in above
                _count(self.seen, name, stems[folder], has_folders=has_folders)

    def beside(self, folder: str) -> Sequence[str]:
        return self._folders.get(folder, ())

    def read(self, name: str) -> bytes | None:
        """Decompresses no further than ``max_bytes``, whatever size the archive claims."""
        member = self._members.get(name)
        if member is None:
            return None
        if member.compress_type not in PLAIN_ZIP:
            raise OSError("neither stored nor deflated")
        data = bytearray()
        try:
            with self._archive.open(member) as file:
                while chunk := file.read(1 << 16):
                    data += chunk
                    if len(data) > self._where.max_bytes:
                        raise _too_large(self._where.max_bytes)
        except _ZIP_ERRORS as error:
            raise OSError(f"damaged in the archive: {error}") from error
        return bytes(data)

    def locate(self, name: str) -> str:
        return f"{self._path}::{name}"
