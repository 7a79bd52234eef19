"""Image files that are awkward, hostile or broken, made in memory."""

from __future__ import annotations

import io
import itertools
import struct
import zlib
from collections.abc import Iterator

from PIL import Image

_MIB = 1 << 20
_CUT_EXIF = b"Exif\0\0II*\0\x08\0\0\0\x05\0\x12\x01\x03\0"  # ends inside the first of 5 entries
_IHDR_END = 33  # signature 8, length 4, type 4, body 13, CRC 4


def broken_images() -> dict[str, tuple[bytes, str]]:
    """Awkward image files by name: (bytes, mime), made in memory, the same on every call.

    All decode with Pillow except ``huge_png`` (valid, but 3.6 gigapixels), ``png_text_bomb``
    (valid, with a text chunk of 100 MB) and ``png_bad_crc``; Pillow warns of the EXIF
    of ``jpeg_broken_exif``.
    """
    rgb = _sample(48, 32)
    grey, palette = rgb.convert("L"), rgb.convert("P", palette=Image.Palette.ADAPTIVE)
    rgba = rgb.copy()
    rgba.putalpha(grey)
    moving = {"save_all": True, "append_images": [rgb.rotate(180), rgb.rotate(90)]}
    rotated = Image.Exif()
    rotated[0x0112] = 6  # Orientation: show turned 90 degrees clockwise
    png = _encoded(rgb, "PNG")
    return {
        "huge_png": (_black_png(60_000), "image/png"),
        "animated_gif": (_encoded(rgb, "GIF", duration=100, **moving), "image/gif"),
        "animated_webp": (_encoded(rgb, "WEBP", duration=100, **moving), "image/webp"),
        "apng": (_encoded(rgb, "PNG", duration=100, **moving), "image/png"),
        "png_16bit": (_encoded(grey.convert("I;16"), "PNG"), "image/png"),
        "jpeg_cmyk": (_encoded(rgb.convert("CMYK"), "JPEG"), "image/jpeg"),
        "png_palette": (_encoded(palette, "PNG"), "image/png"),
        "png_palette_transparent": (_encoded(palette, "PNG", transparency=0), "image/png"),
        "jpeg_exif_rotated": (_encoded(_sample(40, 20), "JPEG", exif=rotated), "image/jpeg"),
        "jpeg_broken_exif": (_encoded(rgb, "JPEG", dpi=(72, 72), exif=_CUT_EXIF), "image/jpeg"),
        "png_rgba": (_encoded(rgba, "PNG"), "image/png"),
        "gif_static": (_encoded(palette, "GIF"), "image/gif"),
        "webp": (_encoded(rgb, "WEBP"), "image/webp"),
        "jpeg_grayscale": (_encoded(grey, "JPEG"), "image/jpeg"),
        "jpeg_progressive": (_encoded(rgb, "JPEG", progressive=True), "image/jpeg"),
        "bmp": (_encoded(rgb, "BMP"), "image/bmp"),
        "tiff": (_encoded(rgb, "TIFF"), "image/tiff"),
        "png_text_bomb": (_with_text_bomb(png, 100_000_000), "image/png"),
        "png_bad_crc": (png[: _IHDR_END - 4] + bytes(4) + png[_IHDR_END:], "image/png"),
    }


def _sample(width: int, height: int) -> Image.Image:
    """A small RGB picture with a different gradient in each channel."""
    ramp = Image.linear_gradient("L")
    channels = [ramp, ramp.rotate(90), Image.radial_gradient("L")]
    return Image.merge("RGB", [channel.resize((width, height)) for channel in channels])


def _encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def _chunk(kind: bytes, body: bytes) -> bytes:
    """A PNG chunk (PNG specification, section 5.3)."""
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _zlib_zeros(size_bytes: int) -> bytes:
    """A zlib stream (RFC 1950) of zeros; their Adler-32 is known without a pass over them."""
    adler32 = struct.pack(">HH", size_bytes % 65521, 1)
    return b"\x78\xda" + b"".join(deflated_zeros(size_bytes)) + adler32


def _black_png(side_px: int) -> bytes:
    """A valid square 1-bit greyscale PNG; each row is a filter byte and `side_px` / 8 bytes."""
    header = struct.pack(">IIBBBBB", side_px, side_px, 1, 0, 0, 0, 0)
    pixels = _zlib_zeros(side_px * (1 + (side_px + 7) // 8))
    chunks = [_chunk(b"IHDR", header), _chunk(b"IDAT", pixels), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _with_text_bomb(png: bytes, size_bytes: int) -> bytes:
    bomb = _chunk(b"zTXt", b"Comment\0\0" + _zlib_zeros(size_bytes))
    return png[:_IHDR_END] + bomb + png[_IHDR_END:]


def deflated_zeros(size_bytes: int) -> Iterator[bytes]:
    """Pieces of a raw deflate stream (RFC 1951) of `size_bytes` zeros, about 1,000:1.

    A fully flushed block stands alone, so one compressed MiB is repeated: no piece is over
    a few kB and nothing near `size_bytes` is ever held or compressed.
    """
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    block = packer.compress(bytes(_MIB)) + packer.flush(zlib.Z_FULL_FLUSH)
    yield from itertools.repeat(block, size_bytes // _MIB)
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    yield packer.compress(bytes(size_bytes % _MIB)) + packer.flush()
