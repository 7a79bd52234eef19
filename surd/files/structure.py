"""What an image file is made of, counted before any decoder looks at it.

Decoders take time and memory for each piece of a file: Pillow walks over markers, chunks and blocks
in Python, and libjpeg over all pixels for each scan. A few bytes a piece make hours of a few
megabytes, so a file with more pieces than any encoder writes is refused.
"""

from __future__ import annotations

import re
import struct

import numpy as np
from PIL import Image

from surd.files.jxl import is_jxl

MAX_SEGMENTS = 4096
"""Markers of a JPEG before its first scan, and bytes between them; blocks of a GIF before its first
picture. The largest profiles and XMP packets take some hundred."""
MAX_SCANS = 100
"""Of a JPEG. Encoders write 10 or so, and no more than 64 are needed for three components."""
MAX_SCANNED_PIXELS = 3_000_000_000
"""Scans of a JPEG times its pixels: some 3 seconds."""
MAX_CHUNKS = 4096
"""Of a PNG, and one more for every 512 bytes of the file."""
MAX_SIDE_RATIO = 200
"""Of the longer side to the shorter one. CLIP scales the shorter one to 224 pixels before it crops:
900,000 x 100 pixels took 25 seconds and 3.7 GB."""

_NO_SCAN = re.compile(rb"\xff[^\x00\xd0-\xd7\xff]")
"""The next marker after data that is entropy-coded (ITU-T T.81, section B.1.1.2)."""
_SOS, _EOI = 0xDA, 0xD9
_SEQUENTIAL = {0xC0, 0xC1}
"""Start of a frame that needs no more than one scan, coded after Huffman."""
_TABLES = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}
"""Segments that may stand between that and its scan: tables, comments, what applications add."""
_PAIR, _SOS_PAIR = np.dtype("<u2"), _SOS << 8 | 0xFF
_SIGNATURES = {
    b"\xff\xd8": "JPEG",
    b"\x89PNG\r\n": "PNG",
    b"GIF8": "GIF",
    b"RIFF": "WEBP",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
}
_TIFF = tuple(start for start, name in _SIGNATURES.items() if name == "TIFF")
_OTHERS = {
    b"%!PS": "EPS",
    b"\xc5\xd0\xd3\xc6": "EPS",
    b"\0\0\1\0": "ICO",
    b"\0\0\2\0": "CUR",
    b"icns": "ICNS",
    b"8BPS": "PSD",
    b"DDS ": "DDS",
    b"qoif": "QOI",
    b"\0\0\0\x0cjP": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"v/1\x01": "OpenEXR",
    b"SIMPLE  =": "FITS",
    **{b"P%d%c" % (n, end): "PPM" for n in range(1, 8) for end in b"\n\r\t "},
}
"""Other images, which are never given to a decoder."""


def plugins(data: bytes) -> list[str]:
    """Names of those of Pillow's plugins that may open a file, by its first bytes; none for files
    of other formats than surd accepts."""
    if data[4:8] == b"ftyp":
        names = ["AVIF", "HEIF"]
    elif is_jxl(data):
        names = ["JXL"]
    else:
        names = [name for start, name in _SIGNATURES.items() if data.startswith(start)]
    Image.init()
    return [name for name in names if name in Image.OPEN]


def is_uncounted(data: bytes) -> bool:
    """Whether a decoder's work is bounded neither by the pixels of the file's header nor by what is
    counted here: AVIF, HEIF, JPEG XL and TIFF."""
    return data[4:8] == b"ftyp" or is_jxl(data) or data[:4] in _TIFF


def other_format(data: bytes) -> str | None:
    """The name of an image format that surd does not decode."""
    return next((name for start, name in _OTHERS.items() if data.startswith(start)), None)


def too_many_pieces(data: bytes) -> str | None:
    """What a file has too many of, if anything. Takes as long as a few thousand pieces do."""
    if data.startswith(b"\xff\xd8"):
        return _of_jpeg(data)
    if data.startswith(b"\x89PNG\r\n"):
        return _of_png(data)
    return _of_gif(data) if data.startswith(b"GIF8") else None


def too_many_scans(data: bytes, pixels: int) -> str | None:
    """What decoding all scans of a JPEG would take, if that is too much."""
    if not data.startswith(b"\xff\xd8") or _has_one_scan(data):
        return None
    most = max(1, min(MAX_SCANS, MAX_SCANNED_PIXELS // max(pixels, 1)))
    markers = _at_most_scans(data)
    if markers <= most:
        return None
    scans = _scans(data, most)
    return None if scans <= most else f"more than {most} scans of {pixels:,} pixels"


def _has_one_scan(data: bytes) -> bool:
    """Whether a JPEG has all components in its first scan and needs no second one, as most do.

    libjpeg refuses such a file at its second scan, without decoding that (``has_multiple_scans`` in
    https://github.com/libjpeg-turbo/libjpeg-turbo/blob/main/src/jdinput.c).
    """
    position, components = 2, 0
    for _ in range(MAX_SEGMENTS):
        if position + 10 > len(data) or data[position] != 0xFF:
            return False
        kind = data[position + 1]
        if kind == _SOS:
            return components == data[position + 4]
        if kind in _SEQUENTIAL and not components:
            components = data[position + 9]
        elif kind not in _TABLES:
            return False
        position += 2 + max(2, struct.unpack_from(">H", data, position + 2)[0])
    return False


def _at_most_scans(data: bytes) -> int:
    """How often the marker of a scan could be read anywhere in a JPEG, quickly."""
    pairs = (np.frombuffer(data, _PAIR, (len(data) - first) // 2, first) for first in (0, 1))
    return sum(int(np.count_nonzero(pair == _SOS_PAIR)) for pair in pairs)


def _of_jpeg(data: bytes) -> str | None:
    """Pillow passes over bytes between segments, one by one."""
    position, steps = 2, 0
    while position + 4 <= len(data):
        marker = data.find(b"\xff", position)
        steps += 1 + (marker - position if marker >= 0 else len(data) - position)
        if steps > MAX_SEGMENTS:
            return f"more than {MAX_SEGMENTS:,} segments"
        if marker < 0 or marker + 4 > len(data) or data[marker + 1] in (_SOS, _EOI):
            return None
        kind = data[marker + 1]
        if kind == 0xFF:
            position = marker + 1
        elif kind in (0x00, 0x01) or 0xD0 <= kind <= 0xD8:
            position = marker + 2
        else:
            position = marker + 2 + max(2, struct.unpack_from(">H", data, marker + 2)[0])
    return None


def _scans(data: bytes, most: int) -> int:
    """Scans of the first picture, counted up to one more than `most`."""
    position, scans, segments = 2, 0, 0
    while (found := _NO_SCAN.search(data, position)) is not None and scans <= most:
        kind, position = data[found.start() + 1], found.end()
        segments += 1
        if segments > 4 * MAX_SEGMENTS:
            return most + 1
        if kind == _EOI:
            break
        scans += kind == _SOS
        if kind not in (0x01, 0xD8) and position + 2 <= len(data):
            position += max(2, struct.unpack_from(">H", data, position)[0])
    return scans


def _of_png(data: bytes) -> str | None:
    most = MAX_CHUNKS + len(data) // 512
    position, chunks = 8, 0
    while position + 12 <= len(data):
        chunks += 1
        if chunks > most:
            return f"more than {most:,} chunks"
        length, kind = struct.unpack_from(">I4s", data, position)
        if kind == b"IEND":
            break
        position += 12 + length
    return None


def _of_gif(data: bytes) -> str | None:
    """Pillow joins the blocks of a comment one by one."""
    position = 13 + (3 << (data[10] & 7) + 1 if len(data) > 10 and data[10] & 0x80 else 0)
    blocks = 0
    while position + 2 <= len(data) and data[position] != 0x2C:  # a picture
        position += 2 if data[position] == 0x21 else 1
        while position < len(data) and data[position]:
            position += data[position] + 1
            blocks += 1
            if blocks > MAX_SEGMENTS:
                return f"more than {MAX_SEGMENTS:,} blocks"
        position += 1
        blocks += 1
        if blocks > MAX_SEGMENTS:
            return f"more than {MAX_SEGMENTS:,} blocks"
    return None
