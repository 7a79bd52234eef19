"""Rows of parts that are not finished, kept as they are computed, for the run after a kill.

Format: a file below ``<group>/.unfinished`` is records in a row, each ``<QI`` (length and CRC-32 of
what follows) and a table as an Arrow IPC stream. A record that is cut off or damaged ends its file:
what stands before it counts. Every run begins files of its own.
"""

from __future__ import annotations

import contextlib
import secrets
import struct
import time
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

import pyarrow as pa

from surd.errors import WorkspaceError
from surd.store.storage import Storage

_FOLDER = ".unfinished"
_HEAD = struct.Struct("<QI")
REMOTE_EVERY_S = 30.0
"""Object stores cannot append: each so often what came since becomes an object of its own."""


class Journal:
    """Takes down rows of one part, within a ``with`` block.

    On a local disk a kill loses none that were appended; on an object store it loses those of the
    last ``REMOTE_EVERY_S``, which an error or Ctrl-C does not.
    """

    def __init__(self, storage: Storage, group: str, part: int) -> None:
        self._storage = storage
        self._name = f"{group}/{_FOLDER}/{part:05d}-{secrets.token_hex(4)}"
        self._files: list[str] = []
        self._waiting: list[bytes] = []
        self._written_s = time.monotonic()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            with contextlib.suppress(WorkspaceError):  # the first error is the one to tell
                self._write()

    def append(self, table: pa.Table) -> None:
        """Keep some rows. Raises WorkspaceError where they cannot be written."""
        self._waiting.append(_record(table))
        if self._storage.is_local or time.monotonic() - self._written_s > REMOTE_EVERY_S:
            self._write()

    def delete(self) -> None:
        """The part is finished: forget what was kept here."""
        self._waiting.clear()
        for name in self._files:
            self._storage.delete(name)
        self._files.clear()

    def _write(self) -> None:
        content = b"".join(self._waiting)
        self._waiting.clear()
        self._written_s = time.monotonic()
        if content and self._storage.is_local:
            self._files = [self._name]
            self._storage.append_bytes(self._name, content)
        elif content:
            self._files.append(f"{self._name}-{len(self._files)}")
            self._storage.write_bytes(self._files[-1], content)


def read(storage: Storage, group: str, parts: Collection[int]) -> Iterator[pa.Table]:
    """The tables that earlier runs kept of some parts, as far as they are whole."""
    for name in _names(storage, group, parts):
        with contextlib.suppress(FileNotFoundError):
            yield from _tables(storage.read_bytes(name))


def tidy(storage: Storage, group: str, parts: Collection[int]) -> None:
    """Delete what earlier runs kept of parts that are finished; nobody may be writing."""
    for name in _names(storage, group, parts):
        storage.delete(name)
    if storage.is_local:
        with contextlib.suppress(OSError):  # something is left in it
            Path(storage.path(f"{group}/{_FOLDER}")).rmdir()


def _names(storage: Storage, group: str, parts: Collection[int]) -> list[str]:
    names = storage.names(f"{group}/{_FOLDER}")
    numbers = [name.split("-", 1)[0] for name in names]
    return [
        f"{group}/{_FOLDER}/{name}"
        for name, number in zip(names, numbers, strict=True)
        if number.isascii() and number.isdigit() and int(number) in parts
    ]


def _record(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    content: bytes = sink.getvalue().to_pybytes()
    return _HEAD.pack(len(content), zlib.crc32(content)) + content


def _tables(data: bytes) -> Iterator[pa.Table]:
    at = 0
    while at + _HEAD.size <= len(data):
        length, crc = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        content = data[at : at + length]
        if len(content) < length or zlib.crc32(content) != crc:
            return
        try:
            with pa.ipc.open_stream(content) as stream:
                table = stream.read_all()
            table.validate(full=True)  # a checksum is right in what a stranger wrote, too
        except (pa.ArrowException, OSError, UnicodeDecodeError):
            return
        yield table
        at += length
