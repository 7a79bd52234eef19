"""Whole files on local disks and object stores: they exist completely, or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from surd.errors import WorkspaceError, one_line
from surd.store.processes import has_ended, own_name
from surd.untrusted import open_regular

_STAMPS = (
    *("size", "mtime", "ino", "LastModified", "ETag", "etag", "updated", "last_modified"),
    *("created", "blob_id"),
)
"""What file systems tell of a file, each in its own words."""
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
"""Also after pathlib, which makes ``s3:/`` of ``s3://``. A drive of Windows has one letter."""

_CONDITION_FAILED = {"PreconditionFailed", "ConditionalRequestConflict", "NoSuchKey"} | {
    "412", "409", "404",
}  # fmt: skip
_NOT_IMPLEMENTED = {"NotImplemented", "501"}


class Storage:
    """One folder on a local disk or behind any fsspec url (``s3://``, ``gs://``, ``hf://``).

    A local file is written under a temporary name, fsynced and renamed; a remote one is
    written locally first and uploaded as a whole: one PUT, or a multipart upload that is nowhere
    to be seen before its last request. Listings are never cached: others write here too.
    """

    def __init__(self, location: str) -> None:
        try:
            options = {"use_listings_cache": False} if "://" in location else {}
            self.fs, self.root = fsspec.core.url_to_fs(location, **options)
        except ImportError as error:
            extra = 'pip install "surd[s3]"' if location.startswith("s3:") else "install it"
            raise WorkspaceError(f"{location}: {error}; {extra}") from error
        except ValueError as error:
            raise WorkspaceError(f"{location}: {error}") from error
        self.location = location
        self.is_local = isinstance(self.fs, LocalFileSystem)
        self._is_s3 = "s3" in self.fs.protocol
        self.may_write: Callable[[], None] = lambda: None
        """Called before anything here changes; raises WorkspaceError when that is no longer ours
        to do, as after the loss of a lease."""

    def path(self, name: str) -> str:
        """Full path of ``name`` within its file system."""
        return f"{self.root}/{name}"

    def exists(self, name: str) -> bool:
        """Whether ``name`` is there, completely."""
        with self._telling(f"look for {name}"):
            return bool(self.fs.exists(self.path(name)))

    def names(self, folder: str) -> list[str]:
        """Sorted names of the files directly in ``folder``; none when it does not exist."""
        try:
            with self._telling(f"list {folder}"):
                found = self.fs.ls(self.path(folder), detail=False, refresh=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        return sorted(path.rsplit("/", 1)[-1] for path in found)

    def stamps(self, folder: str) -> dict[str, str]:
        """Name -> what is told of the files directly in ``folder``, equal while none changes: a
        size, and after it a time or a tag, unless the store's listings have neither."""
        try:
            with self._telling(f"list {folder}"):
                found = self.fs.ls(self.path(folder), detail=True, refresh=True)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        return {
            entry["name"].rsplit("/", 1)[-1]: " ".join(
                str(entry[key]) for key in _STAMPS if entry.get(key) is not None
            )
            for entry in found
        }

    def stamp(self, name: str) -> tuple[int, ...] | None:
        """Of a local file, equal while it stays the same; None if there is none, or elsewhere."""
        if not self.is_local:
            return None
        try:
            found = Path(self.path(name)).stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def read_bytes(self, name: str) -> bytes:
        """The file's content; raises FileNotFoundError."""
        with self._telling(f"read {name}"):
            if self.is_local:
                with open_regular(self.path(name)) as file:
                    return file.read()
            content: bytes = self.fs.cat_file(self.path(name))
        return content

    def open(self, name: str) -> Any:
        """A seekable binary file, or its path where reading by path is faster."""
        return self.path(name) if self.is_local else self.open_binary(name)

    def open_binary(self, name: str) -> Any:
        """A seekable binary file. Of a remote one no more is read than is asked for, since columns
        of a part lie far apart: s3fs would read 50 MB ahead at each."""
        with self._telling(f"read {name}"):
            if self.is_local:
                return open_regular(self.path(name))
            return self.fs.open(self.path(name), "rb", cache_type="none")

    def delete(self, name: str) -> None:
        """Remove ``name`` if it is there."""
        self.may_write()
        with contextlib.suppress(FileNotFoundError), self._telling(f"delete {name}"):
            self.fs.rm_file(self.path(name))

    def rename(self, name: str, new_name: str) -> None:
        """Give a file another name within this storage."""
        self.may_write()
        with self._telling(f"rename {name}"):
            self.fs.mv(self.path(name), self.path(new_name))

    def write_bytes(self, name: str, content: bytes) -> None:
        """Replace ``name`` by ``content``, atomically."""
        with self.writing(name) as temporary:
            temporary.write_bytes(content)

    def version(self, name: str) -> str | None:
        """What S3 knows the present content of ``name`` by; None when there is none, and where no
        write could depend on it."""
        try:
            with self._telling(f"look for {name}"):
                info = self.fs.info(self.path(name), refresh=True) if self._is_s3 else {}
        except FileNotFoundError:
            return None
        version: str | None = info.get("ETag")
        return version

    def write_over(self, name: str, content: bytes, version: str | None) -> None:
        """Write a small remote file if ``version`` is still its last one (None: it is not there).

        Where the store cannot tell, whatever is there is replaced: read it again to see what
        became of it. https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
        """
        condition = {"IfMatch": version} if version else {"IfNoneMatch": "*"}
        with self._telling(f"write {name}"):
            try:
                self.fs.pipe_file(self.path(name), content, **(condition if self._is_s3 else {}))
            except OSError as error:
                response = getattr(error.__cause__, "response", {})
                code = response.get("Error", {}).get("Code")
                if code in _NOT_IMPLEMENTED:
                    self.fs.pipe_file(self.path(name), content)
                elif code not in _CONDITION_FAILED:
                    raise

    def append_bytes(self, name: str, content: bytes) -> None:
        """Add to the end of a local file, which need not be there yet. Not synced, and a kill may
        leave a piece of ``content``: readers have to tell."""
        path = Path(self.path(name))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab", buffering=0) as file:
                while content:
                    content = content[file.write(content) :]
        except OSError as error:
            raise self._cannot_write(name, error) from error

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Give a local path to write to; on leaving without an error it becomes ``name``."""
        temporary = self._temporary_path(name)
        try:
            temporary.touch()
            mode = temporary.stat().st_mode
            yield temporary
            give_mode(temporary, mode)
            fsync(temporary)
            self.may_write()
            if self.is_local:
                destination = Path(self.path(name))
                temporary.replace(destination)
                fsync(destination.parent)
            else:
                with self._telling(f"write {name}"):
                    self.fs.put_file(str(temporary), self.path(name))
        except Exception as error:
            if isinstance(error, OSError) or _errno(error) is not None:
                raise self._cannot_write(name, error) from error
            raise
        finally:
            temporary.unlink(missing_ok=True)

    def _cannot_write(self, name: str, error: Exception) -> WorkspaceError:
        return WorkspaceError(
            f"{self.location}: cannot write {name}: {reason_of(error)}; fix that and rerun the "
            "same command; finished work is kept"
        )

    def _temporary_path(self, name: str) -> Path:
        folder, _, base = name.rpartition("/")
        if not self.is_local:
            handle, path = tempfile.mkstemp(prefix=f"surd-{own_name()}-", suffix=f"-{base}")
            os.close(handle)
            return Path(path)
        target = Path(self.root, folder)
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise WorkspaceError(
                f"{target}: cannot create this folder: {error.strerror}; "
                "change its permissions, or choose another"
            ) from error
        return target / f".{base}.{secrets.token_hex(4)}.tmp"

    def system_error(self, error: BaseException) -> str | None:
        """What the system or the network says; None where it is the content that is at fault,
        which a disk may tell as an input/output error."""
        if not self.is_local and isinstance(error, (*self.network_errors(), PermissionError)):
            return str(error).split("\n", 1)[0] or type(error).__name__
        number = _errno(error) if isinstance(error, OSError) else None
        of_content = number is None or (number == errno.EIO and self.is_local)
        return None if of_content else os.strerror(number or 0)

    def network_errors(self) -> tuple[type[Exception], ...]:
        """What reading from a remote store may raise besides OSError."""
        if self.is_local:
            return ()
        import aiohttp

        errors: list[type[Exception]] = [TimeoutError, aiohttp.ClientError]
        with contextlib.suppress(ImportError):
            from botocore.exceptions import BotoCoreError

            errors.append(BotoCoreError)
        return tuple(errors)

    def remove_leftovers(self, folder: str) -> None:
        """Delete temporary files that a killed run left in ``folder``, or on this disk where the
        folder is elsewhere; of a disk that machines share, only what this one left."""
        if not self.is_local:
            _remove_of_ended_processes()
            return
        for name in self.names(folder):
            if is_temporary(name):
                self.delete(f"{folder}/{name}")

    @contextlib.contextmanager
    def _telling(self, what: str) -> Iterator[None]:
        """Turn what a remote store refuses into one line. Files that are not there stay so."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError, WorkspaceError):
            raise
        except Exception as error:
            if self.is_local:
                raise
            why = str(error).split("\n", 1)[0] or type(error).__name__
            raise WorkspaceError(
                f"{self.location}: cannot {what}: {why}; check address, credentials and "
                "permissions, and rerun the same command; finished work is kept"
            ) from error


def is_temporary(name: str) -> bool:
    """Whether a file's name is one that `Storage` gives to what it is still writing."""
    return _TEMPORARY.fullmatch(name) is not None


def local_path(location: str | Path) -> Path:
    """A path on this machine, where ``~`` is the home folder.

    Raises WorkspaceError for a url, which Path would take for a folder called ``s3:``.
    """
    if _URL.match(str(location)):
        raise WorkspaceError(f"{location}: must be a local path; copy the files from or to it")
    return Path(location).expanduser()


def give_mode(path: Path, mode: int) -> None:
    """Let a file be read by those who may read its neighbours: safetensors writes for its owner
    alone. File systems without modes are left as they are."""
    if path.stat().st_mode != mode:
        with contextlib.suppress(OSError):
            path.chmod(stat.S_IMODE(mode))


def _remove_of_ended_processes() -> None:
    for path in Path(tempfile.gettempdir()).glob("surd-*-*"):
        if has_ended(path.name.split("-")[1]) and path.is_file():
            with contextlib.suppress(OSError):
                path.unlink()


def reason_of(error: BaseException) -> str:
    """Why, on one line, in the system's words where it gave a number."""
    number = _errno(error)
    return os.strerror(number) if number else one_line(error)


def _errno(error: BaseException) -> int | None:
    """The system's number of an error; Arrow and safetensors hide it in the text."""
    hidden = re.search(r"\[errno (\d+)\]|\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else None
    return number or (int(hidden[1] or hidden[2]) if hidden else None)


def fsync(path: Path) -> None:
    """Have the system write what it holds of a file, or of a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
