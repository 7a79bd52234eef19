"""The size of a JPEG XL image, which its decoder tells only when it has decoded all of it."""

from __future__ import annotations

import struct
from collections.abc import Iterator

MAX_BOXES = 4096
"""Of a container; the others are not looked at."""
_CODESTREAM = b"\xff\x0a"
_CONTAINER = b"\x00\x00\x00\x0cJXL \r\n\x87\n"
_SIZES = ((9, 1), (13, 1), (18, 1), (30, 1))
"""Bits of a length, and what is added (ISO/IEC 18181-1, SizeHeader)."""
_RATIOS = ((1, 1), (12, 10), (4, 3), (3, 2), (16, 9), (5, 4), (2, 1))


def is_jxl(data: bytes) -> bool:
    """Whether a file begins as JPEG XL does, bare or in a container."""
    return data.startswith((_CODESTREAM, _CONTAINER))


def jxl_size(data: bytes) -> tuple[int, int]:
    """Width and height in pixels. Raises ValueError where the header is cut off."""
    stream = _codestream(data)
    if len(stream) < 2 + 10:
        stream = stream + bytes(12)
    bits = int.from_bytes(stream[2:14], "little")
    at = 0

    def take(count: int) -> int:
        nonlocal at
        value = (bits >> at) & ((1 << count) - 1)
        at += count
        return value

    def length(*, small: bool) -> int:
        if small:
            return 8 * (take(5) + 1)
        count, offset = _SIZES[take(2)]
        return take(count) + offset

    is_small = bool(take(1))
    height = length(small=is_small)
    ratio = take(3)
    if ratio:
        numerator, denominator = _RATIOS[ratio - 1]
        return height * numerator // denominator, height
    return length(small=is_small), height


def _codestream(data: bytes) -> bytes:
    """The beginning of the codestream: the file itself, or the first box that has some of it."""
    if data.startswith(_CODESTREAM):
        return data[:14]
    for kind, body in jxl_boxes(data):
        if kind in (b"jxlc", b"jxlp"):
            start = body.start + (4 if kind == b"jxlp" else 0)
            return data[start : start + 14]
    raise ValueError("no codestream")


def jxl_boxes(data: bytes) -> Iterator[tuple[bytes, slice]]:
    """Type of each box of a container, and where its contents lie (ISO/IEC 18181-2, section 9)."""
    position = 0
    for _ in range(MAX_BOXES):
        if position + 8 > len(data):
            return
        size, kind = struct.unpack_from(">I4s", data, position)
        header = 8
        if size == 1 and position + 16 <= len(data):
            (size,) = struct.unpack_from(">Q", data, position + 8)
            header = 16
        end = position + size if size else len(data)  # 0: up to the end of the file
        yield kind, slice(position + header, end)
        if end < position + header:
            return
        position = end
