"""How many pixels are being decoded at once, over all threads of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

MAX_PIXELS = 100_000_000
"""Some 800 MB, with the copies that decoders make. A larger image is decoded alone."""

_changed = threading.Condition()
_held = 0


@contextmanager
def decoding(pixels: int) -> Iterator[None]:
    """Waits until an image of so many pixels may be decoded. Not to be nested."""
    global _held
    pixels = min(pixels, MAX_PIXELS)
    with _changed:
        _changed.wait_for(lambda: _held + pixels <= MAX_PIXELS)
        _held += pixels
    try:
        yield
    finally:
        with _changed:
            _held -= pixels
            _changed.notify_all()
