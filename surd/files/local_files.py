"""Reading local files and files inside archives, within a byte cap."""

from __future__ import annotations

import lzma
import os
import threading
import zipfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

import pyarrow as pa

from surd.files.archives import Archive, open_archive
from surd.net.fetched import Fetched
from surd.untrusted import open_regular

_GONE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, KeyError)
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    ImportError,  # a url whose file system is not installed
    RuntimeError,  # encrypted
    NotImplementedError,  # a compression method Python lacks
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    pa.ArrowException,
)


class LocalFiles:
    """Reads ``path``, or a file inside another; keeps the latest archives open. Safe in threads.

    ``archive.zip::member`` and ``archive.tar::member`` are files in archives;
    ``table.parquet::COLUMN/ROW`` is a cell, where the table may also be at a url such as
    ``hf://datasets/ORG/NAME/data.parquet``.
    """

    def __init__(self) -> None:
        self._archives: OrderedDict[str, tuple[Archive, list[int]]] = OrderedDict()
        """Path -> the archive and the number of its readers, the latest used last."""
        self._lock = threading.Lock()

    def read(self, path: str, max_bytes: int) -> Fetched:
        """The file's bytes, or the status that says why not. Raises nothing but MemoryError."""
        try:
            data = self._head(path, max_bytes + 1)
        except _GONE:
            return Fetched("missing_file", "not there any more")
        except MemoryError:  # Arrow's among them
            raise
        except _UNREADABLE as error:
            text = str(error).split("\n", 1)[0][:200]
            return Fetched("unreadable_file", text or type(error).__name__)
        if len(data) > max_bytes:
            return Fetched("too_large", f"more than {max_bytes:,} bytes")
        return Fetched("ok", body=data)

    def close(self) -> None:
        """Close the archives."""
        for archive, _ in self._archives.values():
            archive.close()
        self._archives.clear()

    def _head(self, path: str, size: int) -> bytes:
        file, inside, member = path.partition("::")
        if not inside or os.path.exists(path):  # noqa: PTH110  (Path's raises for long names)
            with open_regular(path) as stream:
                return stream.read(size)
        with self._using(file) as archive:
            return archive.head(member, size)

    @contextmanager
    def _using(self, path: str) -> Iterator[Archive]:
        """The open archive; it is not closed while it is used."""
        with self._lock:
            if path not in self._archives:
                self._archives[path] = open_archive(path), [0]
            archive, readers = self._archives[path]
            self._archives.move_to_end(path)
            readers[0] += 1
            self._close_oldest(type(archive))
        try:
            yield archive
        finally:
            with self._lock:
                readers[0] -= 1

    def _close_oldest(self, kind: type[Archive]) -> None:
        """Close archives of one kind beyond its number, those that nobody reads."""
        same = [path for path, (archive, _) in self._archives.items() if type(archive) is kind]
        for path in same[: max(0, len(same) - kind.max_open)]:
            archive, readers = self._archives[path]
            if readers[0] == 0:
                del self._archives[path]
                archive.close()
