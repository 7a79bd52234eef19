"""Text hidden in the lowest bits of the alpha channel, "stealth" information.

A signature of 15 bytes, the number of bits that follow in 32, and the text in UTF-8, compressed by
gzip or not; pixel after pixel, column by column, from the highest bit of each byte on.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from io import BytesIO

import numpy as np
from PIL import Image

from surd.files.carriers.decoding import MAX_TEXT_BYTES
from surd.text.generation.found import Text

SIGNATURES = {b"stealth_pnginfo": False, b"stealth_pngcomp": True}
"""-> whether the text is compressed."""
MAX_PIXELS = 100_000_000
_LENGTH = 15


def may_hold(data: bytes) -> bool:
    """Whether a file has an alpha channel, as its header tells: PNG or lossless WebP."""
    if data.startswith(b"\x89PNG"):
        return data[25:26] in (b"\4", b"\6")
    flags = data[20] if data[8:16] == b"WEBPVP8X" and len(data) > 20 else 0
    return bool(flags & 0x10) or data[8:16] == b"WEBPVP8L"


def texts(data: bytes) -> Iterator[Text]:
    """The hidden text."""
    with Image.open(BytesIO(data), formats=("PNG", "WEBP")) as image:
        if image.width * image.height > MAX_PIXELS or "A" not in image.mode:
            return
        alpha = np.asarray(image.getchannel("A"), dtype=np.uint8)
    text = _read((alpha & 1).T)
    if text is not None:
        yield Text("alpha channel", "parameters", text)


def _read(bits: np.ndarray) -> str | None:
    """``bits``: [width, height] uint8 of 0 and 1."""
    head_bits = 8 * (_LENGTH + 4)
    columns = -(-head_bits // bits.shape[1])
    head = np.packbits(bits[:columns].reshape(-1)[:head_bits]).tobytes()
    compressed = SIGNATURES.get(head[:_LENGTH])
    if compressed is None or len(head) < _LENGTH + 4:
        return None
    (length,) = struct.unpack(">I", head[_LENGTH:])
    if length > 8 * MAX_TEXT_BYTES:
        return None
    body = np.packbits(bits.reshape(-1)[head_bits : head_bits + length]).tobytes()
    if compressed:
        try:
            body = zlib.decompressobj(wbits=31).decompress(body, MAX_TEXT_BYTES)
        except zlib.error:
            return None
    return body.decode("utf-8", "replace")
