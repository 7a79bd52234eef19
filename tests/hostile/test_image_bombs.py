"""Images of many small pieces, in formats nobody asked for, and many large ones at once."""

from __future__ import annotations

import io
import struct
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support_bombs import in_a_gigabyte

from surd.files import images, pixel_budget, structure
from surd.files.carriers.find import texts_in
from surd.files.images import ImageProblem, check_decodes, decode, read_header
from surd.files.structure import (
    MAX_SCANS,
    MAX_SEGMENTS,
    _at_most_scans,
    too_many_pieces,
    too_many_scans,
)


def saved(format_: str, size: tuple[int, int] = (32, 32), **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "red").save(buffer, format_, **options)
    return buffer.getvalue()


def scan_bomb(scans: int) -> bytes:
    """A progressive JPEG, with its last scan again and again."""
    data = saved("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * scans + data[-2:]


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def flood(kind: str) -> bytes:
    jpeg, png, gif = saved("JPEG"), saved("PNG"), saved("GIF")
    table = 13 + (3 << (gif[10] & 7) + 1)
    return {
        "JPEG segments": jpeg[:2] + b"\xff\xe5\0\2" * 10_000 + jpeg[2:],
        "JPEG bytes between segments": jpeg[:20] + b"\0" * 10_000 + jpeg[20:],
        "JPEG fill": jpeg[:2] + b"\xff" * 10_000 + jpeg[2:],
        "JPEG markers alone": jpeg[:2] + b"\xff\x01" * 10_000 + jpeg[2:],
        "PNG chunks": png[:33] + chunk(b"abCd") * 10_000 + png[33:],
        "GIF comments": gif[:table] + b"!\xfe\1a\0" * 10_000 + gif[table:],
        "GIF blocks": gif[:table] + b"!\xfe" + b"\1a" * 10_000 + b"\0" + gif[table:],
    }[kind]


FLOODS = (
    "JPEG segments", "JPEG bytes between segments", "JPEG fill", "JPEG markers alone",
    "PNG chunks", "GIF comments", "GIF blocks",
)  # fmt: skip


@pytest.mark.parametrize("kind", FLOODS)
def test_a_flood_of_pieces_is_refused_before_a_decoder_sees_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = flood(kind)
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("was opened"))
    with pytest.raises(ImageProblem, match="decode_error: more than"):
        read_header(data, max_pixels=10_000)
    assert texts_in(data) == []


def test_scans_are_counted_before_they_are_decoded() -> None:
    data = saved("JPEG", progressive=True)
    assert check_decodes(data, read_header(data, max_pixels=10_000)).shape == (32, 32)
    bomb = scan_bomb(MAX_SCANS + 1)
    for read in (decode, lambda data: read_header(data, max_pixels=10_000)):
        with pytest.raises(ImageProblem, match=f"decode_error: more than {MAX_SCANS} scans"):
            read(bomb)


def test_the_larger_a_picture_the_fewer_its_scans() -> None:
    data = scan_bomb(40)
    assert too_many_scans(data, 10_000_000) is None
    assert "scans of 100,000,000 pixels" in (too_many_scans(data, 100_000_000) or "")


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_jpeg_that_needs_one_scan_is_not_searched_for_others(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 255, (256, 256, 3), np.uint8)
    Image.fromarray(noise).convert(mode).save(buffer, "JPEG", comment=b"\xff\xda" * 200)
    data = buffer.getvalue()
    searched = []
    monkeypatch.setattr(structure, "_at_most_scans", searched.append)
    assert check_decodes(data, read_header(data, max_pixels=100_000)).shape == (64, 64)
    last = data.rindex(b"\xff\xda")
    bomb = data[:last] + data[last:-2] * 1000 + data[-2:]
    with pytest.raises(ImageProblem, match=r"decode_error: .*one scan"):
        check_decodes(bomb, read_header(bomb, max_pixels=100_000))
    assert searched == []


@pytest.mark.parametrize("change", ["a scan of one component", "another frame", "fill bytes"])
def test_whether_a_jpeg_needs_one_scan_is_believed_of_plain_files_alone(change: str) -> None:
    data = bytearray(saved("JPEG", size=(64, 64)))
    frame, scan = data.index(b"\xff\xc0"), data.index(b"\xff\xda")
    if change == "a scan of one component":
        data[scan + 4] = 1
    elif change == "another frame":
        data[scan:scan] = data[frame : frame + 19]
    else:
        data[scan:scan] = b"\xff"
    data[-2:-2] = data[data.index(b"\xff\xda") : -2] * MAX_SCANS
    assert "more than" in (too_many_scans(bytes(data), 4096) or "")


@pytest.mark.parametrize("length", [2, 3, 8, 9])
def test_what_may_be_a_scan_is_found_at_any_place(length: int) -> None:
    assert _at_most_scans(b"\xff\xd8" + bytes(length - 2)) == 0
    for first in range(2, length - 1):
        data = bytearray(b"\xff\xd8" + bytes(length - 2))
        data[first : first + 2] = b"\xff\xda"
        assert _at_most_scans(bytes(data)) == 1


def test_what_looks_like_scans_elsewhere_in_a_file_is_not_counted() -> None:
    data = saved("JPEG")
    comment = b"\xff\xfe" + struct.pack(">H", 1002) + b"\xff\xda" * 500
    assert too_many_scans(data[:2] + comment + data[2:], 1024) is None
    assert too_many_scans(data + b"\xff\xda" * 500, 1024) is None
    assert too_many_scans(saved("PNG") + b"\xff\xda" * 500, 1024) is None


def test_a_profile_in_many_segments_is_no_flood() -> None:
    segment = b"\xff\xe2" + struct.pack(">H", 2 + 65_000) + bytes(65_000)
    data = saved("JPEG")
    assert too_many_pieces(data[:2] + segment * 255 + data[2:]) is None
    idat = b"".join(chunk(b"IDAT", bytes(1024)) for _ in range(10_000))
    png = saved("PNG")
    assert too_many_pieces(png[:33] + idat + png[33:]) is None
    assert MAX_SEGMENTS > 255


@pytest.mark.parametrize("format_", ["EPS", "ICO", "PPM", "ICNS", "DDS", "JPEG2000"])
def test_other_formats_reach_no_decoder(format_: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(format_, (64, 64))
    monkeypatch.setattr(Image, "open", lambda *_, **__: pytest.fail("was opened"))
    with pytest.raises(ImageProblem, match="unsupported_format"):
        read_header(data, max_pixels=10_000)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF"])
def test_accepted_formats_do(format_: str) -> None:
    data = saved(format_)
    facts = read_header(data, max_pixels=10_000)
    assert check_decodes(data, facts).shape == (32, 32)


def test_a_line_of_pixels_is_refused() -> None:
    with pytest.raises(ImageProblem, match="1 x 20000: one side is over 200 times the other"):
        read_header(saved("PNG", (1, 20_000)), max_pixels=100_000)
    assert read_header(saved("PNG", (5, 1000)), max_pixels=10_000).height == 1000


def test_strips_are_converted_as_the_whole_is(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (50, 40, 4), np.uint8)
    for mode in ("RGBA", "LA", "P", "L", "I;16"):
        image = Image.fromarray(noise).convert(mode.replace("I;16", "L"))
        image = Image.fromarray(np.asarray(image, np.uint16) * 257) if mode == "I;16" else image
        buffer = io.BytesIO()
        image.save(buffer, "PNG", **({"transparency": 3} if mode == "P" else {}))
        data = buffer.getvalue()
        facts = read_header(data, max_pixels=10_000)
        whole, grey = decode(data), check_decodes(data, facts)
        with monkeypatch.context() as patch:
            patch.setattr(images, "_STRIP_PIXELS", 7 * 40)
            assert np.array_equal(decode(data), whole)
            assert np.array_equal(check_decodes(data, facts), grey)


def test_pixels_in_decoding_are_bounded_over_all_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_budget, "MAX_PIXELS", 100)
    running, most, lock = 0, 0, threading.Lock()
    barrier = threading.Barrier(2, timeout=10)

    def work(pixels: int) -> None:
        nonlocal running, most
        with pixel_budget.decoding(pixels):
            with lock:
                running += min(pixels, 100)
                most = max(most, running)
            if pixels == 50:
                barrier.wait()  # two of these do run at once
            with lock:
                running -= min(pixels, 100)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [50, 50, 1000, 50, 50, 80, 30, 50, 50]))
    assert most == 100


DECODE = """
from concurrent.futures import ThreadPoolExecutor
from surd.files.images import check_decodes, read_header
data = Path(sys.argv[1]).read_bytes()
facts = read_header(data, max_pixels=100_000_000)
with ThreadPoolExecutor(4) as pool:
    print({grey.shape for grey in pool.map(lambda _: check_decodes(data, facts), range(4))})
"""


def test_many_large_pictures_at_once_take_less_than_a_gigabyte(tmp_path: Path) -> None:
    side = 8000
    head = struct.pack(">IIBBBBB", side, side, 8, 6, 0, 0, 0)
    rows = zlib.compress(bytes((4 * side + 1) * side), 1)
    data = saved("PNG")[:8] + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND")
    (tmp_path / "a.png").write_bytes(data)
    assert in_a_gigabyte(DECODE, tmp_path / "a.png") == f"{{({side}, {side})}}"
