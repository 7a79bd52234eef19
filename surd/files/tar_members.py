"""Where the files of a tar archive begin, read from its headers alone."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from surd.untrusted import open_regular

MAX_MEMBERS = 1_000_000
_BLOCK_BYTES = 512
_MAX_HEADER_BYTES = 1 << 20
_COMPRESSED = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
}
"""How a compressed file begins. Nothing in the middle of one can be read by itself."""


@dataclass(frozen=True, slots=True)
class Member:
    """A regular file in an archive."""

    name: str
    offset: int
    size: int


def members(path: Path) -> Iterator[Member]:
    """The regular files of an uncompressed tar, in order.

    Links, devices, folders and sparse files are passed over. Raises ValueError, which says what is
    wrong, where the archive is damaged; OSError where it cannot be read.
    """
    with open_regular(path) as file:
        _refuse_compressed(file.read(6))
        file.seek(0)
        try:
            headers = _Headers(file)
            with tarfile.open(fileobj=headers, mode="r:") as archive:  # type: ignore[call-overload]
                yield from _members(archive, headers)
                file.seek(archive.offset)
                if file.read(_BLOCK_BYTES).strip(b"\0"):
                    raise ValueError(f"damaged at byte {archive.offset:,}")
        except RecursionError as error:
            raise ValueError("damaged: too many headers of one member") from error
        except (tarfile.TarError, EOFError, OverflowError) as error:
            raise ValueError(f"no tar, or damaged ({error})") from error


class _Headers:
    """The archive, of which no more than a megabyte is read for a member: tarfile reads long names,
    extended headers and maps of sparse files whole, whatever their size."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.left = _MAX_HEADER_BYTES
        self.seek, self.tell = file.seek, file.tell

    def read(self, size: int) -> bytes:
        """As a file's; raises ValueError beyond the limit."""
        self.left -= size
        if self.left < 0:
            raise ValueError(f"damaged: a header of more than {_MAX_HEADER_BYTES:,} bytes")
        return self._file.read(size)


def _members(archive: tarfile.TarFile, headers: _Headers) -> Iterator[Member]:
    last = -1
    count = 0
    while (info := archive.next()) is not None:
        headers.left = _MAX_HEADER_BYTES
        archive.members.clear()  # type: ignore[attr-defined]  # it would keep every one
        if info.offset <= last or info.size < 0:
            raise ValueError("damaged: a header leads back to one before it")
        last = info.offset
        count += 1
        if count > MAX_MEMBERS:
            raise ValueError(f"more than {MAX_MEMBERS:,} members")
        if info.isreg() and not info.issparse():
            yield Member(info.name, info.offset_data, info.size)


def _refuse_compressed(head: bytes) -> None:
    for magic, method in _COMPRESSED.items():
        if head.startswith(magic):
            raise ValueError(
                f"compressed with {method}, so its members cannot be read one by one; decompress it"
            )
