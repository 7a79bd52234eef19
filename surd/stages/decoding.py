"""Decoding ahead of a model, so that it never waits for pictures."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import pyarrow as pa
from PIL import Image

from surd.files.images import ImageProblem, decode
from surd.stages.base import Batch

Prepared = TypeVar("Prepared")
Loaded = TypeVar("Loaded")

_BATCHES_AHEAD = 2
_SHARPNESS = 1.5
"""How many times the pixels a model asks for a scaled decode must keep on the shorter side."""


@dataclass(frozen=True)
class Opened(Generic[Prepared]):
    """The rows of a batch, and what was made of each picture; else the row's status.

    The status is ok for a picture that nobody wanted.
    """

    table: pa.Table
    pictures: list[Prepared | str]

    @property
    def statuses(self) -> list[str]:
        """Of each row: ok, no_image or decode_error."""
        return [p if isinstance(p, str) else "ok" for p in self.pictures]

    @property
    def usable(self) -> list[int]:
        """Indices of the rows that have a picture."""
        return [i for i, picture in enumerate(self.pictures) if not isinstance(picture, str)]

    def pieces(self, rows: int) -> Iterator[Opened[Prepared]]:
        """So many rows at a time; the last may be fewer."""
        for first in range(0, len(self.pictures), rows):
            yield Opened(self.table.slice(first, rows), self.pictures[first : first + rows])


def opened(
    batches: Iterable[Batch],
    prepare: Callable[[Image.Image], Prepared],
    *,
    side_px: Callable[[], int],
    wanted: Callable[[pa.Table], Sequence[bool]] | None = None,
) -> Iterator[Opened[Prepared]]:
    """Decode and prepare the pictures of the column ``bytes``, some batches ahead, in threads.

    `side_px` gives the shorter side the model works at: a JPEG is decoded at a fraction of its
    size where that leaves 1.5 times as much. ``bytes`` may be null; a picture that does not
    decode is a status and nothing worse. `wanted` tells of each row whether its picture is to be
    looked at; both functions and `prepare` are called only when one is.
    """

    def prepared(data: bytes | None, asked: bool) -> Prepared | str:
        if data is None:
            return "no_image"
        if not asked:
            return "ok"
        least = round(side_px() * _SHARPNESS)
        try:
            return prepare(Image.fromarray(decode(data, min_side_px=least)))
        except ImageProblem:
            return "decode_error"

    waiting: deque[tuple[pa.Table, list[Future[Prepared | str]]]] = deque()
    with ThreadPoolExecutor(os.cpu_count() or 1, "surd-decode") as pool:
        try:
            for batch in batches:
                data = batch.table["bytes"].to_pylist()
                asked = wanted(batch.table) if wanted else [True] * len(data)
                images = [pool.submit(prepared, *row) for row in zip(data, asked, strict=True)]
                waiting.append((batch.table, images))
                if len(waiting) > _BATCHES_AHEAD:
                    yield _done(*waiting.popleft())
            while waiting:
                yield _done(*waiting.popleft())
        finally:
            pool.shutdown(cancel_futures=True)


def once(load: Callable[[], Loaded]) -> Callable[[], Loaded]:
    """Calls `load` when first asked, by whichever thread, and never again."""
    lock = threading.Lock()
    loaded: list[Loaded] = []

    def get() -> Loaded:
        with lock:
            if not loaded:
                loaded.append(load())
        return loaded[0]

    return get


def _done(table: pa.Table, images: list[Future[Prepared | str]]) -> Opened[Prepared]:
    return Opened(table, [image.result() for image in images])
