"""Reading local files and members of zip archives, within a byte cap."""

from __future__ import annotations

import lzma
import threading
import zipfile
import zlib
from pathlib import Path

from surd.fetch import Fetched

_GONE = (FileNotFoundError, NotADirectoryError, IsADirectoryError, KeyError)
_UNREADABLE = (
    OSError,
    ValueError,
    EOFError,
    RuntimeError,  # encrypted
    NotImplementedError,  # a compression method Python lacks
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
)


class LocalFiles:
    """Reads ``path`` or ``archive.zip::member``; opens each archive once. Safe in threads."""

    def __init__(self) -> None:
        self._archives: dict[str, zipfile.ZipFile] = {}
        self._lock = threading.Lock()

    def read(self, path: str, max_bytes: int) -> Fetched:
        """The file's bytes, or the status that says why not. Never raises."""
        try:
            data = self._head(path, max_bytes + 1)
        except _GONE:
            return Fetched("missing_file", "not there any more")
        except _UNREADABLE as error:
            text = str(error).split("\n", 1)[0][:200]
            return Fetched("unreadable_file", text or type(error).__name__)
        if len(data) > max_bytes:
            return Fetched("too_large", f"more than {max_bytes:,} bytes")
        return Fetched("ok", body=data)

    def close(self) -> None:
        """Close the archives."""
        for archive in self._archives.values():
            archive.close()
        self._archives.clear()

    def _head(self, path: str, size: int) -> bytes:
        archive, inside, member = path.partition("::")
        if not inside or Path(path).exists():
            with Path(path).open("rb") as file:
                return file.read(size)
        with self._lock:
            if archive not in self._archives:
                self._archives[archive] = zipfile.ZipFile(archive)
        with self._archives[archive].open(member) as stream:
            return stream.read(size)
