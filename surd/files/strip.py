"""Image files without all that is not the picture: texts, EXIF, XMP, previews, what is appended.

Of JPEG, PNG, WebP and GIF the rest stays byte for byte: pixels, colour profiles and what else a
decoder needs, and the orientation. Other formats are decoded and written as PNG, if they hold
anything.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterator

from surd.files.images import decode
from surd.files.jxl import is_jxl

_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")
_SOI, _EOI, _SOS, _COMMENT = 0xD8, 0xD9, 0xDA, 0xFE
_PNG_KEPT = frozenset(b"tRNS gAMA cHRM sRGB iCCP cICP sBIT bKGD pHYs hIST mDCV cLLI".split())
_WEBP_KEPT = (b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ICCP", b"ANIM", b"ANMF")
_WEBP_EXIF, _WEBP_XMP = 0x08, 0x04
_TELLING = re.compile(rb"Exif|xmp|XMP|mime|uuid|jumb|xml |brob")
"""Boxes with metadata in AVIF, HEIF and JPEG XL; where pixels look like one, nothing is lost."""


def without_metadata(data: bytes, orientation: int) -> bytes:
    """The file, whose EXIF `orientation` is known, with the picture alone; itself if that is all.

    Raises ImageProblem where another format has to be decoded and cannot be.
    """
    try:
        found = _stripped(data, orientation)
    except (struct.error, IndexError, _OddError):
        found = None
    return _as_png(data) if found is None else found


class _OddError(Exception):
    """A structure that no encoder writes."""


def _stripped(data: bytes, orientation: int) -> bytes | None:
    """None where it takes decoding."""
    if data.startswith(b"\xff\xd8"):
        return b"".join(_jpeg(data, orientation))
    if data.startswith(b"\x89PNG\r\n"):
        return b"".join(_png(data, orientation))
    if data.startswith(b"RIFF"):
        return _webp(data, orientation)
    if data.startswith(b"GIF8"):
        return b"".join(_gif(data))
    if data[4:8] == b"ftyp" or is_jxl(data):
        return None if _TELLING.search(data) else data
    if data.startswith(b"BM"):
        size, header = struct.unpack_from("<I8xI", data, 2)
        return data if header < 124 and size == len(data) else None  # later ones hold profiles
    return None


def _tiff(orientation: int) -> bytes:
    """What EXIF is in: TIFF 6.0, section 2, with one tag."""
    return struct.pack("<2sHIHHHIHHI", b"II", 42, 8, 1, 0x0112, 3, 1, orientation, 0, 0)


def _jpeg(data: bytes, orientation: int) -> Iterator[bytes]:
    """ITU-T T.81, annex B: the first picture, to its end."""
    yield data[:2]
    oriented = b"Exif\0\0" + _tiff(orientation)
    exif = b"\xff\xe1" + struct.pack(">H", len(oriented) + 2) + oriented
    waiting = exif if orientation > 1 else b""
    position, scans, in_scan = 2, 0, False
    while (found := _MARKER.search(data, position)) is not None:
        marker = found[1][0]
        if scans:
            if found.start() > position and not in_scan:
                raise _OddError  # a decoder reads on there, or not, as what came before it says
            yield data[position : found.start()]  # what is entropy-coded
        if waiting and marker != 0xE0:
            yield waiting
            waiting = b""
        if marker == _EOI:
            yield b"\xff\xd9"
            return
        if marker in (0x01, _SOI):
            raise _OddError
        (length,) = struct.unpack_from(">H", data, found.end())
        position = found.end() + length
        body = data[found.end() + 2 : position]
        if length < 2 or position > len(data):
            raise _OddError
        in_scan = marker == _SOS
        scans += in_scan
        kept = _kept(marker, body)
        if kept:
            yield bytes((0xFF, marker)) + struct.pack(">H", len(kept) + 2) + kept
        elif kept is None:
            yield data[found.end() - 2 : position]
    raise _OddError


def _kept(marker: int, body: bytes) -> bytes | None:
    """What stays of a segment: None for all of it."""
    if marker == 0xE0 and body.startswith(b"JFIF\0") and len(body) >= 14:
        return body[:12] + b"\0\0"  # without its preview
    if marker == 0xE2 and body.startswith(b"ICC_PROFILE\0"):
        return None
    if marker == 0xEE and body.startswith(b"Adobe"):
        return body[:12]
    return b"" if 0xE0 <= marker <= 0xEF or marker == _COMMENT else None


def _png(data: bytes, orientation: int) -> Iterator[bytes]:
    """PNG, third edition, section 5.3: critical chunks and those of colour."""
    yield data[:8]
    position, waiting = 8, orientation > 1
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise _OddError
        if kind == b"IDAT" and waiting:
            body = b"eXIf" + _tiff(orientation)
            yield struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
            waiting = False
        if not kind[0] & 0x20 or kind in _PNG_KEPT:
            yield data[position:end]
        if kind == b"IEND":
            return
        position = end
    raise _OddError


def _webp(data: bytes, orientation: int) -> bytes:
    """WebP container specification: the chunks of the picture."""
    (size,) = struct.unpack_from("<I", data, 4)
    if data[8:12] != b"WEBP" or size + 8 > len(data) + 1:
        raise _OddError
    kept: list[bytes] = []
    position, extended = 12, None
    while position + 8 <= min(size + 8, len(data)):
        kind, length = struct.unpack_from("<4sI", data, position)
        end = position + 8 + length + length % 2
        if position + 8 + length > len(data):
            raise _OddError
        if kind == b"VP8X":
            extended = len(kept)
        if kind in _WEBP_KEPT:
            kept.append(data[position:end].ljust(end - position, b"\0"))
        position = end
    if extended is not None:
        chunk = bytearray(kept[extended])
        chunk[8] &= ~(_WEBP_EXIF | _WEBP_XMP)
        chunk[8] |= _WEBP_EXIF if orientation > 1 else 0
        kept[extended] = bytes(chunk)
    if orientation > 1:
        if extended is None:
            raise _OddError
        tiff = _tiff(orientation)
        kept.append(b"EXIF" + struct.pack("<I", len(tiff)) + tiff)
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _gif(data: bytes) -> Iterator[bytes]:
    """GIF89a, sections 17 to 27: without comments, and applications but those of animations."""
    position = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    yield data[:position]
    while position < len(data):
        start, kind = position, data[position]
        if kind == 0x3B:
            yield b"\x3b"
            return
        if kind == 0x21:
            position += 2
        elif kind == 0x2C:
            flags = data[position + 9]
            position += 11 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
        else:
            raise _OddError
        while data[position]:
            position += data[position] + 1
        position += 1
        application = data[start + 3 : start + 14]
        told = kind == 0x21 and (
            data[start + 1] == 0xFE
            or (data[start + 1] == 0xFF and application not in (b"NETSCAPE2.0", b"ANIMEXTS1.0"))
        )
        if not told:
            yield data[start:position]
    raise _OddError


def _as_png(data: bytes) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(decode(data)).save(file, "PNG")
    return file.getvalue()
