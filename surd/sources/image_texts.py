"""The texts that generators write into PNG, JPEG and WebP files, found without decoding a pixel.

The library sd-parsers could find them too, but it decodes PNG pixels to reach text at the end of
the file, reads EXIF comments as big-endian UTF-16 only, and remembers the last comment by the
address of its image, which a later image may share.

Not found: parameters hidden in the alpha channel ("stealth"), which need every pixel decoded.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

from PIL import Image

KEYWORDS = (
    *("parameters", "fooocus_scheme"),  # AUTOMATIC1111, Forge, Fooocus
    "prompt",  # ComfyUI
    *("invokeai_metadata", "sd-metadata", "Dream"),  # InvokeAI
    *("Description", "Comment", "Source"),  # NovelAI
)
MAX_TEXT_BYTES = 4_000_000
"""Longer texts are taken for hostile and left unread."""

_PNG = b"\x89PNG\r\n\x1a\n"
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286


def texts_in(data: bytes) -> dict[str, str]:
    """Texts of the file under the generators' keywords."""
    exif = Image.Exif()
    texts: dict[str, str] = {}
    if data.startswith(_PNG):
        with Image.open(BytesIO(_png_without_pixels(data)), formats=("PNG",)) as image:
            texts = {k: str(image.info[k]) for k in KEYWORDS if isinstance(image.info.get(k), str)}
            exif = image.getexif()
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        exif.load(_webp_exif(data))
    else:
        with Image.open(BytesIO(data), formats=("JPEG",)) as image:
            exif = image.getexif()
    texts = {**_exif_texts(exif), **texts}
    return {keyword: text for keyword, text in texts.items() if len(text) <= MAX_TEXT_BYTES}


def _png_without_pixels(data: bytes) -> bytes:
    """A PNG of one pixel with the text and EXIF chunks of ``data``, also those after its pixels.

    Chunks are length, type, data, CRC (PNG specification, third edition, section 5.3). Pillow
    decodes the texts and bounds what compressed ones expand to.
    """
    chunks = [_png_chunk(b"IHDR", struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0))]
    keywords = tuple(keyword.encode() + b"\0" for keyword in KEYWORDS)
    position = len(_PNG)
    while position + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, position)
        body = data[position + 8 : position + 8 + min(length, MAX_TEXT_BYTES + 1)]
        wanted = kind in (b"tEXt", b"zTXt", b"iTXt") and body.startswith(keywords)
        if (wanted or kind == b"eXIf") and len(body) == length:
            chunks.append(_png_chunk(kind, body))
        position += 12 + length
    chunks += [_png_chunk(b"IDAT", zlib.compress(b"\0\0")), _png_chunk(b"IEND", b"")]
    return _PNG + b"".join(chunks)


def _png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _webp_exif(data: bytes) -> bytes:
    """The EXIF chunk (WebP container specification, "Extended File Format")."""
    position = 12
    while position + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, position)
        if kind == b"EXIF":
            return data[position + 8 : position + 8 + length]
        position += 8 + length + length % 2
    return b""


def _exif_texts(exif: Image.Exif) -> dict[str, str]:
    """The user comment, and the ``prompt:`` that ComfyUI's WebP writers put in the camera's tags.

    Fooocus puts the comment among the main tags, others where it belongs.
    """
    comment = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT) or exif.get(_USER_COMMENT)
    texts = {}
    if isinstance(comment, (bytes, str)) and comment:
        texts["parameters"] = _decode_comment(comment) if isinstance(comment, bytes) else comment
    for value in exif.values():
        if isinstance(value, str) and value.startswith("prompt:"):
            texts["prompt"] = value.removeprefix("prompt:")
    return texts


def _decode_comment(comment: bytes) -> str:
    """Text of a UserComment: a charset in 8 bytes, then the text (Exif 2.32, section 4.6.5).

    "UNICODE" leaves the byte order open, and writers differ; generators write mostly ASCII
    characters, so their zero bytes tell it.
    """
    charset, text = comment[:8], comment[8:]
    if charset == b"UNICODE\0":
        text = text[: len(text) // 2 * 2]
        big_endian = text[0::2].count(0) >= text[1::2].count(0)
        decoded = text.decode("utf-16-be" if big_endian else "utf-16-le", "surrogatepass")
        return decoded.removeprefix("\ufeff")
    if charset not in (b"ASCII\0\0\0", bytes(8)):
        text = comment
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError:
        return text.decode("latin-1")
