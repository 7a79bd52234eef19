"""Texts among EXIF tags (Exif 2.32, sections 4.6.4 and 4.6.5; the XP tags are Windows')."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from PIL import ExifTags, Image

from surd.files.carriers.decoding import MAX_TEXT_BYTES, decode_comment, decode_plain, decode_utf16
from surd.text.generation.found import Text

HEADER = b"Exif\0\0"
_EXIF_IFD, _USER_COMMENT = 0x8769, 0x9286
_TEXTS = (0x10D, 0x10E, 0x10F, 0x110, 0x131, 0x13B, 0x8298)
"""Tags of text by the standard, whatever type a writer gave them."""
_XP = range(0x9C9B, 0x9CA0)


def texts(tiff: bytes) -> Iterator[Text]:
    """Texts of the main tags and the user comment, which some writers put among the main tags."""
    tiff = tiff.removeprefix(HEADER)
    if not tiff:
        return
    exif = Image.Exif()
    try:
        exif.load(tiff)
        tags: dict[int, Any] = dict(exif)
        comment = exif.get_ifd(_EXIF_IFD).get(_USER_COMMENT) or tags.get(_USER_COMMENT)
    except MemoryError:
        raise
    except Exception:  # hostile bytes make Pillow raise anything
        return
    if comment:
        data = _bytes(comment)
        name = "UserComment (Unicode)" if data[:7].upper() == b"UNICODE" else "UserComment"
        yield from _text("UserComment", decode_comment(data), name)
    for tag, value in tags.items():
        if isinstance(value, str | bytes | tuple) and tag not in (_USER_COMMENT, _EXIF_IFD):
            name = ExifTags.TAGS.get(tag, f"tag {tag:#06x}")
            data = _bytes(value)
            if tag in _XP:
                yield from _text(name, decode_utf16(data, "utf-16-le"))
            elif isinstance(value, str) or tag in _TEXTS:
                yield from _text(name, decode_plain(data))


def _text(tag: str, value: str, name: str | None = None) -> Iterator[Text]:
    if value and len(value) <= MAX_TEXT_BYTES:
        yield Text(f"EXIF {tag}", name or tag, value)


def _bytes(value: Any) -> bytes:
    """A tag's bytes. Pillow decodes ASCII tags as Latin-1, which loses nothing."""
    if isinstance(value, str):
        return value.encode("latin-1", "replace")
    if isinstance(value, tuple):
        return bytes(v for v in value if isinstance(v, int) and 0 <= v < 256)
    return bytes(value) if isinstance(value, bytes) else b""
