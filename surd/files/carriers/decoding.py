"""Text out of bytes that say little or nothing of how they are encoded."""

from __future__ import annotations

MAX_TEXT_BYTES = 4_000_000
"""Longer texts are taken for hostile and left unread."""

_CHARSET = b"charset="


def decode_plain(data: bytes) -> str:
    """UTF-8, which generators write also where a format says Latin-1; else UTF-16 or Latin-1."""
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or _looks_like_utf16(data):
        return decode_utf16(data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        try:
            text = data.decode("cp1252")
        except UnicodeDecodeError:
            text = data.decode("latin-1")
    return text.rstrip("\0")


def decode_comment(data: bytes) -> str:
    """Text of a UserComment: a charset in 8 bytes, then the text (Exif 2.32, section 4.6.5).

    Writers also leave the charset out, write its name into the text (exiv2), say Unicode and write
    UTF-8, and take either order of bytes.
    """
    charset, text = data[:8].upper(), data[8:]
    if data[:8].lower() == _CHARSET:
        name, _, text = data[8:].partition(b" ")
        charset = name.strip(b'"').upper().ljust(8, b"\0")
    if charset.rstrip(b"\0 ") == b"UNICODE":
        if text.count(0) == 0 and not text.startswith((b"\xff\xfe", b"\xfe\xff")):
            try:
                return text.decode("utf-8")
            except UnicodeDecodeError:
                pass
        return decode_utf16(text)
    if charset.rstrip(b"\0 ") == b"JIS":
        for encoding in ("iso2022_jp", "utf-8", "shift_jis", "euc_jp"):
            try:
                return text.decode(encoding).rstrip("\0")
            except UnicodeDecodeError:
                continue
    if charset.rstrip(b"\0 ") in (b"ASCII", b"UNDEFINE", b"") and len(data) >= 8:
        return decode_plain(text)
    return decode_plain(data)


def decode_utf16(data: bytes, encoding: str | None = None) -> str:
    """UTF-16 in the order of bytes that its mark tells, else ``encoding``, else its bytes.

    The higher bytes of a text differ less among themselves than the lower: those of Latin letters
    are all 0, those of one script few.
    """
    data = data[: len(data) // 2 * 2]
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        encoding = "utf-16"
    elif encoding is None:
        kinds = [len(set(data[first::2][:20_000])) for first in (0, 1)]
        zeros = [data[first::2].count(0) for first in (0, 1)]
        big = (kinds[0], -zeros[0]) <= (kinds[1], -zeros[1])
        encoding = "utf-16-be" if big else "utf-16-le"
    text = data.decode(encoding, "replace" if encoding == "utf-16" else "surrogatepass")
    return text.removeprefix("\ufeff").rstrip("\0")


def _looks_like_utf16(data: bytes) -> bool:
    """Whether every second byte is 0, at either place, in nearly all of the text."""
    pairs = len(data) // 2
    return pairs >= 4 and any(
        data[first::2].count(0) > 0.9 * pairs > 0 and data[1 - first :: 2].count(0) < 0.1 * pairs
        for first in (0, 1)
    )
