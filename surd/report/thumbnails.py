"""Small pictures inside the page, as data URIs (RFC 2397)."""

from __future__ import annotations

import base64
import io

from PIL import Image

from surd.files.images import ImageProblem, decode, read_header

SIDE_PX = 192
MAX_BYTES = 5_500
"""Of one picture before base64; what is larger is compressed harder."""
_MAX_PIXELS = 100_000_000
_QUALITIES = (68, 45, 22)


def thumbnail(data: bytes | None, side_px: int = SIDE_PX, max_bytes: int = MAX_BYTES) -> str | None:
    """The picture as WebP of at most ``side_px`` pixels a side; None where it does not decode.

    ``max_bytes`` is kept to as far as compression goes. Smaller pictures are not enlarged.
    """
    try:
        read_header(data or b"", max_pixels=_MAX_PIXELS)
        pixels = decode(data or b"", min_side_px=side_px)
    except ImageProblem:
        return None
    image = Image.fromarray(pixels)
    image.thumbnail((side_px, side_px), Image.Resampling.LANCZOS)
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=quality, method=4)
        if buffer.tell() <= max_bytes:
            break
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()
