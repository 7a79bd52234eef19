"""What is inside an image file: format, size, uprightness, hashes, pixels.

Files are hostile: the format is found in the bytes, the pixel count is checked before anything
is decoded, and whatever a decoder raises becomes an :class:`ImageProblem`. Decoders whose work
cannot be counted beforehand run in a process of their own.
"""

from __future__ import annotations

import hashlib
import io
import logging
import math
import struct
import warnings
import zlib
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError, features

from surd.files.apart import WorkEnded, apart
from surd.files.colour import in_srgb, profile_mode
from surd.files.jxl import is_jxl, jxl_size
from surd.files.pixel_budget import decoding
from surd.files.structure import (
    MAX_SIDE_RATIO,
    is_uncounted,
    other_format,
    plugins,
    too_many_pieces,
    too_many_scans,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

Result = TypeVar("Result")

_FORMATS = {
    "JPEG": "image/jpeg",
    "MPO": "image/jpeg",  # a JPEG with previews or a second view behind it
    "PNG": "image/png",
    "WEBP": "image/webp",
    "GIF": "image/gif",
    "BMP": "image/bmp",
    "TIFF": "image/tiff",
    "AVIF": "image/avif",
    "HEIF": "image/heif",
    "JXL": "image/jxl",
}
MAX_PIXELS = 178_956_970
"""Pillow refuses to open images with more pixels than this."""
_FIRST_OF_MANY = ("GIF", "MPO", "TIFF")
"""Formats whose first picture stands for a file with several: an animation's, a scan's."""
_EXTRAS = {"HEIC": ("pillow_heif", "register_heif_opener"), "JPEG XL": ("pillow_jxl", "")}
"""What ``surd[formats]`` decodes: the module, and its function that tells Pillow so."""
_AVIF_BRANDS = (b"avif", b"avis")
_HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
_ORIENTATION = 0x0112
_STRIP_PIXELS = 4_000_000
_HASH_SIDE_PX = 64
_DCT_SIDE_PX = 32


class ImageProblem(Exception):  # noqa: N818  (a verdict on one sample, not a failure of surd)
    """Why bytes are no usable image. ``status`` is one of ``schema.IMAGE_STATUSES``."""

    def __init__(self, status: str, detail: str) -> None:
        super().__init__(status, detail)  # as it crosses processes
        self.status = status
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.status}: {self.detail}"


def hush() -> None:
    """Keep Pillow quiet in this process: broken files are verdicts, not warnings."""
    warnings.filterwarnings("ignore", module="PIL")
    logging.getLogger("PIL").setLevel(logging.CRITICAL)


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What the header of an image file says."""

    mime: str
    width: int
    """Pixels, upright."""
    height: int
    orientation: int
    """EXIF orientation, 1 to 8; 1 when there is none."""


def read_header(data: bytes, *, max_pixels: int) -> ImageFacts:
    """Sniff ``data`` without decoding it. Raises ImageProblem."""
    if not data:
        raise ImageProblem("empty", "zero bytes")
    if is_uncounted(data):
        return opened_apart(_read_header, data, max_pixels)
    return _read_header(data, max_pixels)


def _read_header(data: bytes, max_pixels: int) -> ImageFacts:
    with open_image(data, max_pixels) as image:
        mime = _FORMATS.get(image.format or "")
        if mime is None:
            raise ImageProblem("unsupported_format", f"{image.format} image")
        width, height = image.size
        if width * height > max_pixels:
            raise ImageProblem(
                "too_many_pixels", f"{width} x {height} is more than {max_pixels:,} pixels"
            )
        if max(width, height) > MAX_SIDE_RATIO * min(width, height):
            size = f"{width} x {height}: one side is over {MAX_SIDE_RATIO:,} times the other"
            raise ImageProblem("unsupported_format", size)
        if problem := too_many_scans(data, width * height) if mime == "image/jpeg" else None:
            raise ImageProblem("decode_error", problem)
        if image.format not in _FIRST_OF_MANY and _is_animated(image, data):
            raise ImageProblem("animated", "more than one frame")
        orientation = 1 if image.format == "TIFF" else _orientation(image)  # Pillow turns those
    if orientation >= 5:
        width, height = height, width
    return ImageFacts(mime, width, height, orientation)


def decode(data: bytes, *, min_side_px: int | None = None) -> NDArray[np.uint8]:
    """Decode to upright RGB, ``[h, w, 3]`` uint8 in 0..255. Raises ImageProblem.

    With ``min_side_px`` a JPEG may be decoded at 1/2, 1/4 or 1/8 of its size, as long as its
    shorter side keeps at least that many pixels. Of an animation it is the first picture.
    Transparency is laid on white, 16-bit samples are reduced to 8, colours with an ICC profile
    and CMYK are converted to sRGB.
    """
    if is_uncounted(data):
        with decoding(0 if is_jxl(data) else opened_apart(_pixels, data)):
            return opened_apart(_decode, data, min_side_px)
    return _decode(data, min_side_px)


def _decode(data: bytes, min_side_px: int | None, *, grey: bool = False) -> NDArray[np.uint8]:
    """Upright RGB ``[h, w, 3]``, or grey ``[h, w]``."""
    try:
        with (
            open_image(data) as image,
            decoding(image.width * image.height),
            closing(image),  # its pixels are gone before others may be decoded
        ):
            if problem := too_many_scans(data, image.width * image.height):
                raise ImageProblem("decode_error", problem)
            pixels = _upright_rgb(image, data, min_side_px)
            return _grey(pixels) if grey else pixels
    except ImageProblem:
        raise
    except _DECODER_ERRORS as error:
        raise _problem(error, data) from error


def _upright_rgb(image: Image.Image, data: bytes, min_side_px: int | None) -> NDArray[np.uint8]:
    profile = image.info.get("icc_profile")
    pixels = _decode_jpeg(data, min_side_px) if data[:2] == b"\xff\xd8" else None
    if pixels is None:
        return _decode_any(image, profile)
    if profile and (mode := profile_mode(profile)):
        one = Image.fromarray(pixels if mode != "L" else pixels[:, :, 0])
        pixels = np.asarray(in_srgb(one, profile).convert("RGB"))
    return upright(pixels, _orientation(image))


def check_decodes(data: bytes, facts: ImageFacts) -> NDArray[np.uint8]:
    """Read the whole file, so that truncation and damage show. Raises ImageProblem.

    Returns a small upright grey picture, ``[h, w]`` uint8, for hashing. A JPEG is decoded at the
    smallest of 1/8, 1/4 and 1/2 of its size that suffices: all of its data is read, few of its
    pixels are computed.
    """
    try:
        if facts.mime == "image/jpeg":
            with decoding(facts.width * facts.height):
                grey = _decode_jpeg(data, _HASH_SIDE_PX, grey=True)
            if grey is not None:
                return upright(grey[:, :, 0], facts.orientation)
        if is_uncounted(data):
            with decoding(0 if is_jxl(data) else facts.width * facts.height):
                return opened_apart(_decode_grey, data)
        return _decode_grey(data)
    except ImageProblem:
        raise
    except _DECODER_ERRORS as error:
        raise _problem(error, data) from error


def _decode_grey(data: bytes) -> NDArray[np.uint8]:
    return _decode(data, None, grey=True)


def grey_thumbnail(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A small grey picture ``[h, w]`` of RGB pixels ``[h, w, 3]``, for hashing."""
    image = Image.fromarray(pixels)
    factor = max(1, min(image.size) // _HASH_SIDE_PX)
    return np.asarray(image.reduce(factor).convert("L"))


def perceptual_hash(grey: NDArray[np.uint8]) -> str:
    """64-bit DCT hash of a grey picture ``[h, w]`` uint8, as 16 hexadecimal digits.

    The bits say which of the 8 x 8 lowest frequencies of the picture at 32 x 32 are above their
    median (https://www.hackerfactor.com/blog/index.php?/archives/432-Looks-Like-It.html); they
    equal those of ``imagehash.phash``.
    """
    small = Image.fromarray(grey).resize((_DCT_SIDE_PX, _DCT_SIDE_PX), Image.Resampling.LANCZOS)
    basis = _dct_basis()
    low = np.round(basis @ np.asarray(small, np.float64) @ basis.T, 6)  # [8, 8]
    middle = np.sort(low, axis=None)[31:33]  # np.median takes six times as long
    return np.packbits(low > (middle[0] + middle[1]) / 2).tobytes().hex()


@cache
def _dct_basis() -> NDArray[np.float64]:
    """``[8, 32]``: the lowest rows of the type II discrete cosine transform."""
    k, n = np.ogrid[:8, :_DCT_SIDE_PX]
    basis: NDArray[np.float64] = 2 * np.cos(np.pi * k * (2 * n + 1) / (2 * _DCT_SIDE_PX))
    return basis


def sha256(data: bytes) -> str:
    """64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Undo an EXIF orientation (1 to 8); ``pixels`` is ``[h, w]`` or ``[h, w, c]``."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)


def opened_apart(work: Callable[..., Result], data: bytes, *arguments: Any) -> Result:
    """``work(data, *arguments)``, which opens the file, in a process that a limit can end.

    To open JPEG XL is to decode it, so this waits for room. Raises ImageProblem.
    """
    _load_decoder(data)
    try:
        with decoding(math.prod(jxl_size(data)) if is_jxl(data) else 0):
            return apart(work, data, *arguments)
    except WorkEnded as ended:
        raise ImageProblem("decode_error", f"its decoder: {ended}") from ended
    except ValueError as error:
        raise _problem(error, data) from error


def _pixels(data: bytes) -> int:
    with open_image(data) as image:
        return image.width * image.height


def open_image(data: bytes, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """By its own format's decoder, once its pieces are counted. Raises ImageProblem."""
    try:
        if is_jxl(data):
            width, height = jxl_size(data)
            if width * height > max_pixels:
                size = f"{width} x {height} is more than {max_pixels:,} pixels"
                raise ImageProblem("too_many_pixels", size)
        _load_decoder(data)
        if problem := too_many_pieces(data):
            raise ImageProblem("decode_error", problem)
        formats = plugins(data)
        if not formats:
            raise _no_image(data)
        return Image.open(io.BytesIO(data), formats=formats)
    except ImageProblem:
        raise
    except Image.DecompressionBombError as error:
        raise ImageProblem("too_many_pixels", str(error).split(",")[0]) from error
    except UnidentifiedImageError as error:
        if data[4:8] == b"ftyp" and data[8:12] not in (*_AVIF_BRANDS, *_HEIF_BRANDS):
            raise _no_image(data) from error  # a video, mostly
        raise ImageProblem("decode_error", "an image file with a damaged header") from error
    except _DECODER_ERRORS as error:
        raise _problem(error, data) from error


def _no_image(data: bytes) -> ImageProblem:
    name = other_format(data)
    if name is not None:
        return ImageProblem("unsupported_format", f"{name} image")
    return ImageProblem("not_an_image", _looks_like(data))


def _load_decoder(data: bytes) -> None:
    """Have Pillow know the format of ``data``. Raises ImageProblem where its decoder is missing."""
    brand = data[8:12] if data[4:8] == b"ftyp" else b""
    if brand in _AVIF_BRANDS and not features.check("avif"):
        raise ImageProblem("unsupported_format", "AVIF; run: pip install -U pillow")
    name = "JPEG XL" if is_jxl(data) else "HEIC" if brand in _HEIF_BRANDS else None
    if name is not None and b"avif" not in data[16:64] and not _registered(name):
        raise ImageProblem("unsupported_format", f'{name}; run: pip install "surd[formats]"')


@cache
def _registered(name: str) -> bool:
    module, register = _EXTRAS[name]
    if find_spec(module) is None:
        return False
    loaded = import_module(module)
    if register:
        getattr(loaded, register)()
    return True


_DECODER_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    OverflowError,
    ArithmeticError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,  # NotImplementedError among them
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,  # where warnings are errors
)
"""What Pillow, simplejpeg and numpy are known to raise on broken files. Not MemoryError: what an
image is does not depend on the machine."""
_OUT_OF_MEMORY = ("out of memory", "insufficient memory", "cannot allocate memory")
"""How Pillow, libjpeg and OpenCV say it otherwise."""


def _problem(error: BaseException, data: bytes) -> ImageProblem:
    """The verdict on a file. Raises MemoryError where there is none, but too little memory."""
    text = _first_line(error)
    if any(words in text.lower() for words in _OUT_OF_MEMORY):
        raise MemoryError(text) from error
    early = any(word in text.lower() for word in ("truncated", "premature", "unexpected end"))
    if data[:4] == b"RIFF":  # WebP's decoder does not say why; the header says how long it is
        early = len(data) < int.from_bytes(data[4:8], "little") + 8
    status = "truncated" if early else "decode_error"
    return ImageProblem(status, text)


def _first_line(error: BaseException) -> str:
    text = str(error).strip().split("\n", 1)[0]
    return text[:200] or type(error).__name__


def _looks_like(data: bytes) -> str:
    start = data[:512].lstrip().lower()
    if start.startswith((b"<svg", b"<?xml")) or b"<svg" in start:
        return "an SVG or XML document"
    if start.startswith((b"<!doctype", b"<html", b"<head", b"<body")):
        return "an HTML page"
    if start.startswith((b"{", b"[")):
        return "JSON text"
    return "no format that surd knows"


def _is_animated(image: Image.Image, data: bytes) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except _DECODER_ERRORS as error:  # it looks for a second picture
        raise _problem(error, data) from error


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except _DECODER_ERRORS:
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _decode_jpeg(
    data: bytes, min_side_px: int | None, *, grey: bool = False
) -> NDArray[np.uint8] | None:
    """``[h, w, 3]`` RGB (``[h, w, 1]`` grey) as stored; None when this is no plain JPEG."""
    height, width, colorspace, _ = simplejpeg.decode_jpeg_header(data)
    if colorspace not in ("YCbCr", "Gray"):
        return None
    factor = 1
    while min_side_px and factor < 8 and min(height, width) // (factor * 2) >= min_side_px:
        factor *= 2
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
        data,
        colorspace="GRAY" if grey else "RGB",
        min_height=-(-height // factor) if factor > 1 else 0,
        min_width=-(-width // factor) if factor > 1 else 0,
        min_factor=1,
    )
    return pixels


def _decode_any(image: Image.Image, profile: bytes | None) -> NDArray[np.uint8]:
    """Upright ``[h, w, 3]`` RGB of what Pillow decodes, which turns TIFF itself and then knows of
    no orientation any more. Raises ImageProblem for another size than the header's."""
    width, height = image.size
    image.load()
    if image.size != (width, height):
        found = f"{image.width} x {image.height}"
        raise ImageProblem("decode_error", f"{found} pixels, but {width} x {height} in the header")
    orientation = _orientation(image)
    if height <= _strip_rows(width):
        return upright(_to_rgb(in_srgb(image, profile)), orientation)
    pixels = np.empty((height, width, 3), np.uint8)
    for top in range(0, height, rows := _strip_rows(width)):
        end = min(top + rows, height)
        strip = in_srgb(image.crop((0, top, width, end)), profile)
        pixels[top:end] = _to_rgb(strip)
    return upright(pixels, orientation)


def _strip_rows(width: int) -> int:
    """Rows that are converted at once: each conversion has a copy of them."""
    return max(1, _STRIP_PIXELS // width)


def _grey(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """``[h, w]`` of ``[h, w, 3]``, as Pillow has it."""
    grey = np.empty(rgb.shape[:2], np.uint8)
    for top in range(0, len(rgb), rows := _strip_rows(rgb.shape[1])):
        grey[top : top + rows] = np.asarray(Image.fromarray(rgb[top : top + rows]).convert("L"))
    return grey


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Any Pillow mode to RGB on white."""
    if image.mode.startswith("I;16"):
        grey = (np.asarray(image).astype(np.uint16) >> 8).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("RGBA")
        canvas = Image.new("RGBA", layer.size, "white")
        canvas.alpha_composite(layer)
        image = canvas
    return np.asarray(image.convert("RGB"))
