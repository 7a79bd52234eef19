"""What a GGUF file says of itself, compared with how long it is.

The library that reads these files believes every count in them
(https://github.com/ggml-org/ggml/blob/master/docs/gguf.md).
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import BinaryIO

from surd.untrusted import open_regular

_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
"""Bytes of the types of values that have a fixed size."""
_STRING, _ARRAY = 8, 9
_MAX_DEPTH = 4
_MAX_DIMENSIONS = 4
_BITS_PER_WEIGHT = 1
"""At least, in any of the formats of weights."""


def check_gguf(path: Path) -> None:
    """Raises ValueError for a file that claims more than it holds; OSError."""
    with open_regular(path) as file:
        _Header(file, path.stat().st_size).check()


class _Header:
    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def check(self) -> None:
        if self._read(4) != b"GGUF":
            raise ValueError("no GGUF file")
        (version,) = struct.unpack("<I", self._read(4))
        if version not in (2, 3):
            raise ValueError(f"GGUF of version {version}, but 2 and 3 are read")
        tensors, pairs = struct.unpack("<QQ", self._read(16))
        self._claim("tensors", tensors, 24)
        self._claim("values", pairs, 13)
        for _ in range(pairs):
            self._pass_string()
            self._pass_value(self._number("<I"), _MAX_DEPTH)
        for _ in range(tensors):
            self._pass_string()
            dimensions = self._number("<I")
            if dimensions > _MAX_DIMENSIONS:
                raise ValueError(f"a tensor of {dimensions:,} dimensions")
            weights = 1
            for _ in range(dimensions):
                weights *= self._number("<Q")
            self._read(4)
            offset = self._number("<Q")
            if offset + weights * _BITS_PER_WEIGHT // 8 > self._size:
                raise ValueError(f"a tensor of {weights:,} weights at byte {offset:,}")

    def _claim(self, what: str, count: int, least_bytes: int) -> None:
        left = self._size - self._file.tell()
        if count * least_bytes > left:
            raise ValueError(f"claims {count:,} {what} in {left:,} bytes")

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise ValueError("ends early")
        return data

    def _number(self, layout: str) -> int:
        return int(struct.unpack(layout, self._read(struct.calcsize(layout)))[0])

    def _pass(self, what: str, size: int) -> None:
        self._claim(what, size, 1)
        self._file.seek(size, 1)

    def _pass_string(self) -> None:
        self._pass("characters", self._number("<Q"))

    def _pass_value(self, kind: int, depth: int) -> None:
        if kind in _SIZES:
            self._pass("bytes", _SIZES[kind])
        elif kind == _STRING:
            self._pass_string()
        elif kind == _ARRAY and depth:
            inner, count = self._number("<I"), self._number("<Q")
            if inner in _SIZES:
                self._pass("bytes", count * _SIZES[inner])
                return
            self._claim("items", count, 8)
            for _ in range(count):
                self._pass_value(inner, depth - 1)
        else:
            raise ValueError(f"a value of type {kind}")
