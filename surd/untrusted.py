"""What strangers wrote: JSON, YAML, and paths of files."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

MAX_DEPTH = 100
_FREE_NODES = 100_000


class TooDeepError(ValueError):
    """JSON that is nested so deep that whatever walked over it would end in a RecursionError."""


def parse_json(text: str | bytes) -> Any:
    """A JSON document, with None for numbers that are none (NaN, Infinity, 1e999).

    Raises ValueError, which says what is wrong, for what is no JSON, and its kind TooDeepError for
    what is nested deeper than ``MAX_DEPTH``.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text), "surrogatepass")
    try:
        value = _DECODER.decode(text)
    except RecursionError as error:
        raise TooDeepError("nested too deeply") from error
    level, depth = [value], 0
    while level := [inner for outer in level for inner in _inside(outer)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise TooDeepError("nested too deeply")
    return value


def _finite(text: str) -> float | None:
    number = float(text)
    return number if math.isfinite(number) else None


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=lambda _: None)


def _inside(value: Any) -> list[Any]:
    """The lists and objects directly inside of one."""
    values = value.values() if isinstance(value, dict) else value
    if not isinstance(value, dict | list):
        return []
    return [inner for inner in values if isinstance(inner, dict | list)]


def parse_yaml(text: str) -> Any:
    """A YAML document, as plain values. Raises what PyYAML does, and ValueError for aliases that
    stand for far more than the text, or for themselves."""
    import yaml

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _expanded(node, {}) > len(text) + _FREE_NODES:
            raise ValueError("aliases that expand to far more than the file")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _expanded(node: Any, known: dict[int, float]) -> float:
    """How many values a node stands for, each alias counted as what it names."""
    if isinstance(node.value, str):
        return 1 + len(node.value) // 100
    if id(node) not in known:
        known[id(node)] = math.inf  # for itself, within
        inner = (part for one in node.value for part in (one if isinstance(one, tuple) else (one,)))
        known[id(node)] = 1 + sum(_expanded(part, known) for part in inner)
    return known[id(node)]


def below(root: Path, written: str) -> Path:
    """``root / written``. Raises ValueError where that lies outside of ``root``.

    The names alone are looked at: links that somebody put into the folder are followed.
    """
    path = Path(os.path.normpath(root / written))
    if not path.is_relative_to(os.path.normpath(root)):
        raise ValueError(f"{written[:200]!r} is outside of {root}")
    return root / written


def read_regular(path: str | Path) -> bytes:
    """The content of a regular file. Raises OSError, as :func:`open_regular`."""
    with open_regular(path) as file:
        return file.read()


def open_regular(path: str | Path) -> BinaryIO:
    """A regular file; opening a pipe would wait for a writer, for ever. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise IsADirectoryError(path)
        if not stat.S_ISREG(mode):
            raise OSError("no regular file")
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise
