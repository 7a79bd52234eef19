"""Segments of JPEG files with text: EXIF and XMP in APP1, and comments (ITU-T T.81, annex B)."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from surd.files.carriers import exif, xmp
from surd.files.carriers.decoding import decode_plain
from surd.text.generation.found import Text

_APP1, _COMMENT, _SCAN, _END = 0xE1, 0xFE, 0xDA, 0xD9
_ALONE = {0x01, *range(0xD0, 0xD9)}
"""Markers without a length."""


def texts(data: bytes) -> Iterator[Text]:
    """Texts of the segments before the first scan. EXIF that goes on over segments is one."""
    tiff = b""
    for marker, body in _segments(data):
        if marker == _COMMENT:
            yield Text("JPEG comment", "JPEG comment", decode_plain(body))
        elif body.startswith(exif.HEADER):
            tiff += body.removeprefix(exif.HEADER)
        elif body.startswith(xmp.HEADER):
            yield from xmp.texts(body.removeprefix(xmp.HEADER))
    yield from exif.texts(tiff)


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 2
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker in _ALONE or marker == 0xFF:  # the latter fills
            position += 1 if marker == 0xFF else 2
            continue
        if marker in (_SCAN, _END):
            return
        (length,) = struct.unpack_from(">H", data, position + 2)
        if marker in (_APP1, _COMMENT):
            yield marker, data[position + 4 : position + 2 + length]
        position += 2 + max(length, 2)
