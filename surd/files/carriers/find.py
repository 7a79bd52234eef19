"""The texts in an image file, by the carriers of its format."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator

from surd.files.carriers import exif, jpeg, jxl, png, stealth, webp, xmp
from surd.files.carriers.decoding import decode_plain
from surd.files.images import open_image, opened_apart
from surd.files.jxl import is_jxl
from surd.files.structure import is_uncounted, too_many_pieces
from surd.text.generation.found import Text

Carrier = Callable[[bytes], Iterator[Text]]

MAX_TEXTS = 1_000


def texts_in(data: bytes) -> list[Text]:
    """Texts that a file tells without decoding a pixel. Raises nothing but MemoryError."""
    return _texts(_carrier(data), data)


def hidden_texts_in(data: bytes) -> list[Text]:
    """Texts in the alpha channel, which is decoded where there is one. Raises
    nothing but MemoryError."""
    return _texts(stealth.texts, data) if stealth.may_hold(data) else []


def _texts(carrier: Carrier, data: bytes) -> list[Text]:
    """The distinct texts, of a damaged file those before the damage."""
    texts: dict[Text, None] = {}
    if too_many_pieces(data):
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for text in carrier(data):
                if text.value.strip() and len(texts) < MAX_TEXTS:
                    texts[text] = None
    except MemoryError:
        raise
    except Exception:  # hostile bytes make Pillow raise anything
        return list(texts)
    return list(texts)


def _carrier(data: bytes) -> Carrier:
    if data.startswith(png.SIGNATURE):
        return png.texts
    if data.startswith(b"\xff\xd8"):
        return jpeg.texts
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return webp.texts
    if is_jxl(data):
        return jxl.texts
    return _uncounted if is_uncounted(data) else _other


def _uncounted(data: bytes) -> Iterator[Text]:
    yield from opened_apart(_listed, data)


def _listed(data: bytes) -> list[Text]:
    return list(_other(data))


def _other(data: bytes) -> Iterator[Text]:
    """What Pillow tells of any other format."""
    with open_image(data) as image:
        comment, packet = image.info.get("comment"), image.info.get("xmp")
        if isinstance(comment, bytes | str):
            value = comment if isinstance(comment, str) else decode_plain(comment)
            yield Text("comment", "comment", value)
        if isinstance(packet, bytes):
            yield from xmp.texts(packet)
        tiff = image.info.get("exif") or image.getexif().tobytes()
    yield from exif.texts(tiff)
