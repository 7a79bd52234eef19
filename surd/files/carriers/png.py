"""Text chunks of PNG files (PNG specification, third edition, sections 5.3 and 11.3.3).

Chunks are found by their headers, before the pixels and after, whatever their checksums say.
"""

from __future__ import annotations

import binascii
import re
import struct
import zlib
from collections.abc import Iterator

from surd.files.carriers import exif, xmp
from surd.files.carriers.decoding import MAX_TEXT_BYTES, decode_plain
from surd.text.generation.found import Text

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KINDS = (b"tEXt", b"zTXt", b"iTXt", b"eXIf")
_XMP = "XML:com.adobe.xmp"
_PROFILE = re.compile(r"Raw profile type (exif|APP1|xmp)", re.I)
_MAX_EXPANDED = 4 * MAX_TEXT_BYTES


def texts(data: bytes) -> Iterator[Text]:
    """Texts of the chunks tEXt, zTXt, iTXt and eXIf."""
    budget = _MAX_EXPANDED
    for kind, body in chunks(data):
        if kind == b"eXIf":
            yield from exif.texts(body)
            continue
        keyword, value = _parts(kind, body, budget)
        if value is None:
            continue
        budget -= len(value)
        if keyword == _XMP:
            yield from xmp.texts(value)
        elif profile := _PROFILE.fullmatch(keyword):
            yield from _of_profile(profile[1].lower(), value)
        else:
            yield Text(f"PNG {keyword}", keyword, decode_plain(value))


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kinds and bodies of the chunks with text, of those that are whole and not too long."""
    position = len(SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        stop = position + 8 + length
        if kind in _KINDS and length <= MAX_TEXT_BYTES and stop <= len(data):
            yield kind, data[position + 8 : stop]
        position = stop + 4


def _parts(kind: bytes, body: bytes, budget: int) -> tuple[str, bytes | None]:
    """Keyword and text of a chunk; None when it is no text, or expands beyond the limit."""
    keyword, _, rest = body.partition(b"\0")
    compressed = kind == b"zTXt"
    if kind == b"zTXt":
        rest = rest[1:]
    elif kind == b"iTXt":
        compressed = rest[:1] == b"\1"
        pieces = rest[2:].split(b"\0", 2)
        rest = pieces[2] if len(pieces) == 3 else b""
    if compressed:
        inflate = zlib.decompressobj()
        limit = min(MAX_TEXT_BYTES, budget)
        try:
            rest = inflate.decompress(rest, limit) if limit > 0 else b""
        except zlib.error:
            return "", None
        if inflate.unconsumed_tail or limit <= 0:
            return "", None
    return keyword.decode("latin-1").strip(), rest


def _of_profile(kind: str, value: bytes) -> Iterator[Text]:
    """ImageMagick's profiles: a name, a length, and hexadecimal digits."""
    lines = value.strip().split(b"\n", 2)
    try:
        profile = binascii.unhexlify(b"".join(lines[2].split())) if len(lines) == 3 else b""
    except binascii.Error:
        return
    if kind == "xmp" or profile.startswith(xmp.HEADER):
        yield from xmp.texts(profile.removeprefix(xmp.HEADER))
    else:
        yield from exif.texts(profile)
