"""The chunks EXIF and XMP of WebP files (WebP container specification, "Extended File Format")."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from surd.files.carriers import exif, xmp
from surd.text.generation.found import Text


def texts(data: bytes) -> Iterator[Text]:
    """Texts of both chunks."""
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        body = data[position + 8 : position + 8 + length]
        if kind == b"EXIF":
            yield from exif.texts(body)
        elif kind == b"XMP ":
            yield from xmp.texts(body)
        position += 8 + length + length % 2
