"""Small files that grow, and files that are two things at once: read in little memory, as one."""

from __future__ import annotations

import io
import resource
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import pytest
from PIL import Image
from support import jpeg

from surd.files.images import ImageProblem
from surd.sources import metadata
from surd.stages.download.stage import DownloadParams, describe

MB = 1 << 20
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of broken files
GROWTH_MB = 200
"""More memory than that, beside the file itself, and something was expanded."""


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(*chunks: bytes, side: int = 32) -> bytes:
    """A picture with those chunks before its pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), "red").save(buffer, "PNG")
    data = buffer.getvalue()
    return data[:33] + b"".join(chunks) + data[33:]


def zeros(size: int) -> bytes:
    """A zlib stream (RFC 1950) of that many zero bytes, a multiple of a megabyte."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = deflate.compress(bytes(MB)) + deflate.flush(zlib.Z_FULL_FLUSH)
    checksum = (size % 65521) << 16 | 1  # Adler-32 of zeros
    return b"\x78\xda" + block * (size // MB) + b"\x03\x00" + struct.pack(">I", checksum)


def text_of_a_gigabyte(kind: str) -> bytes:
    bomb = zeros(1024 * MB)
    if kind == "zTXt":
        return png(chunk(b"zTXt", b"parameters\0\0" + bomb))
    if kind == "iTXt":
        return png(chunk(b"iTXt", b"parameters\0\1\0\0\0" + bomb))
    if kind == "iCCP":
        return png(chunk(b"iCCP", b"profile\0\0" + bomb))
    if kind == "many":
        return png(*[chunk(b"zTXt", b"parameters\0\0" + zeros(8 * MB))] * 128)
    if kind == "eXIf":  # a thousand tags at the same place
        tags = [struct.pack("<HHII", 0x1000 + n, 7, MB, 8) for n in range(1024)]
        return png(chunk(b"eXIf", ifd(*tags) + bytes(MB)))
    return png(*[chunk(b"tEXt", b"parameters\0" + b"a" * MB)] * 40)


def pixels_of_a_gigabyte() -> bytes:
    """IDAT that expands far beyond what the header declares."""
    data = png()
    header = data[:33]
    return header + chunk(b"IDAT", zeros(1024 * MB)) + chunk(b"IEND", b"")


def test_the_bombs_are_what_they_seem() -> None:
    assert zlib.decompress(zeros(3 * MB)) == bytes(3 * MB)
    assert len(zeros(1024 * MB)) < 2 * MB


READ = f"""
import resource, sys
from pathlib import Path
from surd.files.images import ImageProblem
from surd.sources import metadata
from surd.stages.download.stage import DownloadParams, describe
import PIL.PngImagePlugin
from PIL import Image
data = Path(sys.argv[1]).read_bytes()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_DATA, (8 << 30, 8 << 30))
try:
    describe(data, DownloadParams())
    said = "ok"
except ImageProblem as problem:
    said = problem.status
metadata.read(data)
grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
assert grown_kb < {GROWTH_MB} * 1024, f"grew by {{grown_kb / 1024:.0f}} MB"
print(said)
"""


@pytest.mark.parametrize("kind", ["zTXt", "iTXt", "iCCP", "many", "eXIf", "tEXt", "IDAT"])
def test_a_gigabyte_in_a_picture_is_not_expanded(tmp_path: Path, kind: str) -> None:
    file = tmp_path / "bomb.png"
    file.write_bytes(pixels_of_a_gigabyte() if kind == "IDAT" else text_of_a_gigabyte(kind))
    ran = subprocess.run(
        [sys.executable, "-c", READ, str(file)], capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-500:]
    assert ran.stdout.strip() in {"ok", "decode_error", "truncated"}


# Two things at once


def polyglots() -> dict[str, bytes]:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as zip_:
        zip_.writestr("evil.png", png())
        zip_.writestr("../../evil.txt", "no")
    script = b"<script>alert(1)</script><?php system('id'); ?>"
    return {
        "jpeg and zip": jpeg(1) + archive.getvalue(),
        "png and zip": png() + archive.getvalue(),
        "jpeg and html": jpeg(1) + script,
        "png with a script": png(chunk(b"tEXt", b"Comment\0" + script)),
        "jpeg with a comment": jpeg(1)[:2] + b"\xff\xfe\x00\x31" + script + jpeg(1)[2:],
    }


@pytest.mark.parametrize("name", polyglots())
def test_a_picture_that_is_something_else_too_is_a_picture_and_nothing_else(name: str) -> None:
    data = polyglots()[name]
    try:
        row = describe(data, DownloadParams())
    except ImageProblem:
        return
    assert row["bytes"] == data, "bytes as they came"
    assert row["mime"] in ("image/jpeg", "image/png")
    metadata.read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"PK\x03\x04" + png(),
        b"<html>" + png(),
        b"%PDF-1.7\n" + jpeg(1),
        b"#!/bin/sh\n" + jpeg(1),
        b"MZ" + png(),
        b"RIFF\x00\x00\x00\x00AVI " + png(),
    ],
    ids=["zip", "html", "pdf", "script", "exe", "avi"],
)
def test_something_else_that_holds_a_picture_is_no_picture(data: bytes) -> None:
    with pytest.raises(ImageProblem) as caught:
        describe(data, DownloadParams())
    assert caught.value.status in {"not_an_image", "unsupported_format", "decode_error"}


# EXIF


def exif_jpeg(tiff: bytes) -> bytes:
    """With an APP1 segment that holds `tiff`, whatever that is."""
    body = b"Exif\0\0" + tiff
    return jpeg(1)[:2] + b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body + jpeg(1)[2:]


def ifd(*entries: bytes, following: int = 0) -> bytes:
    header = b"II*\0" + struct.pack("<I", 8)
    return (
        header + struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", following)
    )


BROKEN_EXIF = {
    "nothing": b"",
    "no order of bytes": b"XX*\0\0\0\0\0",
    "an offset beyond the end": b"II*\0\xff\xff\xff\xff",
    "an offset to itself": ifd(following=8),
    "more entries than bytes": b"II*\0\x08\0\0\0\xff\xff",
    "an orientation of a text": ifd(struct.pack("<HHII", 0x112, 2, 4, 0x41414141)),
    "an orientation of 4 billion": ifd(struct.pack("<HHII", 0x112, 4, 1, 0xFFFFFFFF)),
    "a comment of 4 gigabytes": ifd(struct.pack("<HHII", 0x9286, 7, 0xFFFFFFFF, 8)),
    "a folder that holds itself": ifd(struct.pack("<HHII", 0x8769, 4, 1, 8)),
    "a type that does not exist": ifd(struct.pack("<HHII", 0x112, 99, 1, 6)),
    "a fraction by zero": ifd(struct.pack("<HHII", 0x11A, 5, 1, 8)),
}


@pytest.mark.parametrize("tiff", BROKEN_EXIF.values(), ids=BROKEN_EXIF)
def test_broken_exif_costs_the_facts_in_it_and_not_the_picture(tiff: bytes) -> None:
    data = exif_jpeg(tiff)
    row = describe(data, DownloadParams())
    assert (row["width"], row["height"]) == (64, 48)
    assert row["exif_orientation"] == 1
    metadata.read(data)


def test_memory_is_measured(tmp_path: Path) -> None:
    """The limit above would be worth nothing if this machine did not tell."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert before > 1024
