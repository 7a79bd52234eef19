"""Image files without metadata: the same pixels, and nothing else."""

from __future__ import annotations

import contextlib
import io
import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from surd.files.images import ImageProblem, decode, read_header
from surd.files.strip import without_metadata

SECRET = json.dumps({"workflow": "C:\\Users\\ann\\ComfyUI", "api_key": "sk-" + "x" * 40})
BYTES = SECRET.encode()
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + BYTES + b"</x:xmpmeta>"


def pixels(seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 255, (12, 20, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((40, 24))


def exif(orientation: int) -> Image.Exif:
    found = Image.Exif()
    found[0x0112] = orientation
    found[0x010E] = SECRET
    found.get_ifd(0x8769)[0x9286] = b"UNICODE\0" + SECRET.encode("utf-16-le")
    return found


def jpeg(orientation: int = 1, **options: Any) -> bytes:
    file = io.BytesIO()
    options = {"exif": exif(orientation), "icc_profile": PROFILE, "comment": SECRET} | options
    pixels().save(file, "JPEG", **options)
    data = file.getvalue()
    xmp = b"http://ns.adobe.com/xap/1.0/\0" + XMP
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(xmp) + 2) + xmp + data[2:] + BYTES


def png(orientation: int = 1, mode: str = "RGB") -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", SECRET)
    info.add_text("zipped", SECRET, zip=True)
    info.add_itxt("XML:com.adobe.xmp", XMP.decode())
    file = io.BytesIO()
    pixels().convert(mode).save(
        file, "PNG", pnginfo=info, exif=exif(orientation), icc_profile=PROFILE
    )
    body = b"prVt" + BYTES
    chunk = struct.pack(">I", len(BYTES)) + body + struct.pack(">I", zlib.crc32(body))
    data = file.getvalue()
    return data[:33] + chunk + data[33:] + BYTES


def webp(orientation: int = 1, *, lossless: bool = False) -> bytes:
    file = io.BytesIO()
    pixels().save(
        file, "WEBP", exif=exif(orientation), xmp=XMP, icc_profile=PROFILE, lossless=lossless
    )
    return file.getvalue() + BYTES


def gif() -> bytes:
    file = io.BytesIO()
    pixels().convert("P").save(file, "GIF", comment=BYTES[:250])
    return file.getvalue() + BYTES


FILES: dict[str, Callable[[], bytes]] = {
    "jpeg": jpeg,
    "progressive jpeg": lambda: jpeg(6, progressive=True),
    "turned jpeg": lambda: jpeg(8),
    "jpeg without exif": lambda: jpeg(exif=b""),
    "png": png,
    "palette png": lambda: png(mode="P"),
    "turned png": lambda: png(3),
    "webp": webp,
    "lossless, turned webp": lambda: webp(5, lossless=True),
    "gif": gif,
}


def told(data: bytes) -> bytes:
    """All of a file that may be read as text, compressed chunks included."""
    text = data
    position = data.find(b"zTXt")
    while position >= 0:
        text += zlib.decompress(data[data.index(b"\0", position + 4) + 2 :])
        position = data.find(b"zTXt", position + 1)
    return text


@pytest.mark.parametrize("name", FILES)
def test_the_picture_is_the_same_and_nothing_else_is_left(name: str) -> None:
    data = FILES[name]()
    facts = read_header(data, max_pixels=10**6)
    assert b"api_key" in told(data)
    found = without_metadata(data, facts.orientation)
    for trace in (b"api_key", b"Users", "Users".encode("utf-16-le"), b"xmpmeta"):
        assert trace not in found
    assert read_header(found, max_pixels=10**6) == facts
    assert np.array_equal(decode(found), decode(data))
    with Image.open(io.BytesIO(data)) as before, Image.open(io.BytesIO(found)) as now:
        assert now.mode == before.mode and now.info.get("icc_profile") == (
            before.info.get("icc_profile")
        )
        assert set(now.getexif()) <= {0x0112}
    assert without_metadata(found, facts.orientation) == found


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_a_file_with_the_picture_alone_stays_as_it_is(format_: str) -> None:
    file = io.BytesIO()
    pixels().save(file, format_)
    assert without_metadata(file.getvalue(), 1) == file.getvalue()


@pytest.mark.parametrize("format_", ["TIFF", "AVIF"])
def test_what_another_format_holds_goes_with_the_format(format_: str) -> None:
    file = io.BytesIO()
    pixels().save(file, format_, exif=exif(6))
    data = file.getvalue()
    found = without_metadata(data, read_header(data, max_pixels=10**6).orientation)
    assert found.startswith(b"\x89PNG") and b"api_key" not in found
    assert np.array_equal(decode(found), decode(data))


def test_previews_are_no_part_of_the_picture() -> None:
    data = jpeg(exif=b"")
    at = data.index(b"JFIF\0")
    preview = b"\2\2" + b"secret face!"
    length = struct.pack(">H", 16 + 12)
    with_preview = data[: at - 2] + length + data[at : at + 12] + preview + data[at + 14 :]
    assert b"secret face!" not in without_metadata(with_preview, 1)


def test_bytes_between_segments_are_no_part_of_the_picture() -> None:
    data = jpeg(exif=b"")
    at = data.index(b"\xff\xdb")
    assert BYTES not in without_metadata(data[:at] + BYTES + data[at:], 1)


def test_a_segment_within_a_scan_is_not_cut_out_of_it() -> None:
    """A decoder takes what comes before it and after it for two pieces, and without it for one.
    Pillow decodes such a file, if it has four colours."""
    file = io.BytesIO()
    pixels().convert("CMYK").save(file, "JPEG")
    plain = file.getvalue()
    scan = plain.index(b"\xff\xda") + 100
    text = b"\xff\xe5" + struct.pack(">H", 2 + len(BYTES)) + BYTES
    data = plain[:scan] + text + plain[scan:]
    found = without_metadata(data, 1)
    assert found.startswith(b"\x89PNG") and b"api_key" not in found
    assert np.array_equal(decode(found), decode(data))


_WHOLE = [make() for make in FILES.values()]


@settings(max_examples=60)
@given(st.sampled_from(_WHOLE), st.integers(0, 3000), st.binary(max_size=8), st.booleans())
def test_hostile_bytes_are_stripped_or_refused(
    data: bytes, at: int, bytes_: bytes, cut: bool
) -> None:
    data = data[:at] + bytes_ + (b"" if cut else data[at + len(bytes_) :])
    with contextlib.suppress(ImageProblem):
        without_metadata(data, 1)


def test_real_files_lose_what_generators_wrote() -> None:
    from surd.files.carriers.find import texts_in

    folder = Path(__file__).parents[1] / "fuzz" / "corpus" / "generation"
    files = [path for path in folder.iterdir() if path.suffix in (".png", ".webp")]
    for path in files:
        data = path.read_bytes()
        assert texts_in(data) and not texts_in(without_metadata(data, 1))
    assert files
