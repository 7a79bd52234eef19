"""Two CRC-32s in a part's footer: of the bytes before the footer, and of the footer itself.

Parquet has checksums of pages (``PageHeader.crc``,
https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift), none of what
says where the pages are and how they are to be read. A CRC-32 finds every error of one bit, and
every burst of up to 32 (https://en.wikipedia.org/wiki/Cyclic_redundancy_check).
"""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from surd.untrusted import parse_json

FOOTER_KEY = b"surd"
"""Under which a part's Parquet footer describes it."""
ROW_KEYS = b"surd.row_keys"
"""Under which it has a number of 64 bits for each row, little-endian, in base64."""
_OPENING = b'"crc32": "'
_MAGIC = b"PAR1"
_END_BYTES = 8
"""After the footer: its length, little-endian, and the magic number."""
_TAIL_BYTES = 65_536
"""Read at once from the end; enough for most footers."""
_BLOCK_BYTES = 1 << 20


class ChecksumError(ValueError):
    """A file is not what was written."""


class Summed:
    """A file that is written from its start to its end, and the CRC-32 of what it has so far."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self.crc = 0

    @property
    def closed(self) -> bool:
        """Whether nothing more can be written."""
        return self._file.closed

    def write(self, data: Any) -> int:
        """Append."""
        self.crc = zlib.crc32(data, self.crc)
        return self._file.write(data)

    def flush(self) -> None:
        """Hand what was written to the system."""
        self._file.flush()

    def close(self) -> None:
        """No more is written."""
        self._file.close()


def unsealed(body_crc: int) -> str:
    """What the footer's description has under ``crc32`` before :func:`seal`."""
    return f"{body_crc:08x} {0:08x}"


def seal(path: Path) -> None:
    """Note in a finished file's footer the CRC-32 of the footer."""
    with path.open("r+b") as file:
        footer, start = _footer(file)
        file.seek(start + _places(footer)[1])
        file.write(_hex(zlib.crc32(footer)))


def read_footer(file: BinaryIO) -> pq.FileMetaData:
    """Of a seekable Parquet file; checked, if it was sealed.

    Raises ChecksumError, OSError, or what Arrow raises.
    """
    return _parsed(_checked(file))


def read_description(file: BinaryIO) -> dict[str, Any]:
    """What the footer of a part says under FOOTER_KEY, and how many ``rows`` it has.

    Of a sealed file it is read where it stands: Parquet's reader goes through what is said of
    every column chunk first, which takes six to twelve times as long.

    Raises as :func:`read_footer`, and KeyError, TypeError or ValueError where a footer says
    nothing of that kind.
    """
    footer = _checked(file)
    _, own = _places(footer)
    if own:
        start = own - 9 - len(_OPENING) - 1  # of the object, whose first key that is
        said = parse_json(footer[start : footer.find(b"\0", start)])  # Thrift's end of a struct
        if "rows" in said:
            return dict(said)
    parquet = _parsed(footer)  # of an earlier version
    return {**parse_json((parquet.metadata or {})[FOOTER_KEY]), "rows": parquet.num_rows}


def _checked(file: BinaryIO) -> bytes:
    """The footer. Raises ChecksumError where it is not what was written, if it was sealed."""
    footer, _ = _footer(file)
    _, own = _places(footer)
    if own:
        blank = footer[:own] + b"0" * 8 + footer[own + 8 :]
        if footer[own : own + 8] != _hex(zlib.crc32(blank)):
            raise ChecksumError("the footer's checksum does not match")
    return footer


def _parsed(footer: bytes) -> pq.FileMetaData:
    end = len(footer).to_bytes(4, "little") + _MAGIC
    return pq.read_metadata(pa.BufferReader(_MAGIC + footer + end))


def check_body(file: BinaryIO) -> None:
    """Read all of a sealed file that comes before its footer, which was checked.

    Raises ChecksumError where it is not what was written.
    """
    footer, left = _footer(file)
    body, _ = _places(footer)
    if not body:
        return
    file.seek(0)
    found = 0
    while left and (block := file.read(min(_BLOCK_BYTES, left))):
        found = zlib.crc32(block, found)
        left -= len(block)
    if footer[body : body + 8] != _hex(found):
        raise ChecksumError("the checksum of its pages does not match")


def _hex(crc: int) -> bytes:
    return f"{crc:08x}".encode()


def _footer(file: BinaryIO) -> tuple[bytes, int]:
    """The footer and where it begins."""
    size = file.seek(0, 2)
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read()
    length = int.from_bytes(tail[-_END_BYTES:-4], "little")
    start = size - _END_BYTES - length
    if tail[-4:] != _MAGIC or start < len(_MAGIC):
        raise ChecksumError("it does not end like a Parquet file")
    if len(tail) < length + _END_BYTES:
        file.seek(start)
        tail = file.read()
    return tail[-_END_BYTES - length : -_END_BYTES], start


def _places(footer: bytes) -> tuple[int, int]:
    """Where the CRC-32s of body and footer stand in the footer; zeros in one that was not sealed.

    Parquet writes the description after all that comes from rows, so the last is meant.
    """
    at = footer.rfind(_OPENING)
    return (at + len(_OPENING), at + len(_OPENING) + 9) if at >= 0 else (0, 0)
