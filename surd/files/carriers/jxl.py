"""The boxes Exif and xml of JPEG XL containers (ISO/IEC 18181-2, section 9)."""

from __future__ import annotations

from collections.abc import Iterator

from surd.files.carriers import exif, xmp
from surd.files.jxl import jxl_boxes
from surd.text.generation.found import Text

_TIFF = (b"II*\0", b"MM\0*")


def texts(data: bytes) -> Iterator[Text]:
    """Texts of both, without decoding a pixel. Boxes compressed by Brotli are not read."""
    for kind, body in jxl_boxes(data):
        if kind == b"Exif":
            found = data[body]
            if not found.startswith(_TIFF):  # some writers leave the offset out
                found = found[4 + int.from_bytes(found[:4], "big") :]
            yield from exif.texts(found)
        elif kind == b"xml ":
            yield from xmp.texts(data[body])
