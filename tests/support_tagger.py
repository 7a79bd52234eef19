"""A tag model as SmilingWolf publishes them, but tiny: the ONNX file is written here."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

SIDE = 16
ROWS = [
    (1, "general", 9, 10), (2, "explicit", 9, 9), (3, "red_theme", 0, 8), (4, "^_^", 0, 7),
    (5, "blue_theme", 0, 6), (6, "miku_(blue)", 4, 5),
]  # fmt: skip
"""tag_id, name, category, count."""
WEIGHTS = np.array(
    [[0, 0, 0], [0, 0, 1], [0, 0, 1], [0.2, 0.2, 0.2], [1, 0, 0], [1, 0, 0]], np.float32
).T
"""``[blue green red, tags]``: how much of the mean colour, 0 to 255, counts for each tag."""
BIAS = np.array([1, -200, -100, -100, -100, -250], np.float32)


def save_tagger(
    folder: Path,
    rows: Sequence[tuple[int, str, int, int]] = ROWS,
    *,
    batch: int | None = None,
    shape: Sequence[int] = (SIDE, SIDE, 3),
    says_tags: bool = True,
) -> Path:
    """A folder with ``model.onnx`` and ``selected_tags.csv``; `batch`: always so many; not
    `says_tags`: how many scores come out shows when the model runs."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["tag_id,name,category,count", *(",".join(map(str, row)) for row in rows)]
    (folder / "selected_tags.csv").write_text("\n".join(lines) + "\n")
    (folder / "model.onnx").write_bytes(_model(batch, shape, len(BIAS) if says_tags else None))
    return folder


# https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, in the wire format of protocol buffers


def _model(batch: int | None, shape: Sequence[int], columns: int | None) -> bytes:
    means = _node("ReduceMean", ["x"], ["mean"], _ints("axes", [1, 2]) + _int("keepdims", 0))
    nodes = [
        means, _node("MatMul", ["mean", "w"], ["products"]),
        _node("Add", ["products", "b"], ["logits"]),
        _node("Sigmoid", ["logits"], ["y" if columns else "all"]),
    ]  # fmt: skip
    if columns is None:  # those whose bias is not zero, which is all of them
        nodes.append(_node("Cast", ["b"], ["chosen"], _int("to", 9)))
        nodes.append(_node("Compress", ["all", "chosen"], ["y"], _int("axis", 1)))
    graph = b"".join(_bytes(1, node) for node in nodes) + _bytes(2, b"tagger")
    graph += _bytes(5, _tensor("w", WEIGHTS)) + _bytes(5, _tensor("b", BIAS))
    graph += _bytes(11, _value("x", [batch, *shape])) + _bytes(12, _value("y", [batch, columns]))
    return _number(1, 8) + _bytes(7, graph) + _bytes(8, _bytes(1, b"") + _number(2, 13))


def _node(kind: str, given: Iterable[str], made: Iterable[str], attributes: bytes = b"") -> bytes:
    names = b"".join(_bytes(1, n.encode()) for n in given)
    return (
        names
        + b"".join(_bytes(2, n.encode()) for n in made)
        + _bytes(4, kind.encode())
        + attributes
    )


def _int(name: str, value: int) -> bytes:
    return _bytes(5, _bytes(1, name.encode()) + _number(3, value) + _number(20, 2))


def _ints(name: str, values: Iterable[int]) -> bytes:
    found = b"".join(_number(8, value) for value in values)
    return _bytes(5, _bytes(1, name.encode()) + found + _number(20, 7))


def _tensor(name: str, values: np.ndarray) -> bytes:
    sizes = b"".join(_number(1, size) for size in values.shape)
    return sizes + _number(2, 1) + _bytes(8, name.encode()) + _bytes(9, values.tobytes())


def _value(name: str, sizes: Iterable[int | None]) -> bytes:
    dims = (
        _bytes(2, f"n{place}".encode()) if size is None else _number(1, size)
        for place, size in enumerate(sizes)
    )
    shape = b"".join(_bytes(1, dim) for dim in dims)
    tensor = _number(1, 1) + _bytes(2, shape)
    return _bytes(1, name.encode()) + _bytes(2, _bytes(1, tensor))


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes(found) + struct.pack("B", value)
