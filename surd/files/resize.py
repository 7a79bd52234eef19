"""Resizing an image file to a smaller image file."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Literal

import numpy as np
import simplejpeg
from PIL import Image
from pydantic import Field

from surd.files.images import ImageFacts, ImageProblem, decode
from surd.params import Params

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LINEAR_UP_TO = 1.6
_MAX_SIDE_PX = {"jpeg": 65_500, "webp": 16_383, "png": 100_000}
_MAX_PIXELS = 100_000_000


class Resize(Params):
    """How images are resized. Without it the bytes are kept as downloaded."""

    mode: Literal["shorter", "longer", "center_crop"] = Field(
        default="shorter",
        description="scale the shorter or the longer side to `size` pixels, or crop a centred "
        "square",
    )
    size: int = Field(default=512, ge=16, le=16384, description="pixels")
    quality: int = Field(default=95, ge=1, le=100, description="JPEG and WebP quality")
    format: Literal["jpeg", "webp", "png"] = Field(default="jpeg", description="file format")
    upscale: bool = Field(default=False, description="also enlarge smaller images")


def target_size(width: int, height: int, options: Resize) -> tuple[int, int]:
    """Width and height in pixels after scaling, before any crop."""
    side = max(width, height) if options.mode == "longer" else min(width, height)
    if side == options.size or (side < options.size and not options.upscale):
        return width, height
    factor = options.size / side
    return max(1, round(width * factor)), max(1, round(height * factor))


def needs_resize(facts: ImageFacts, options: Resize) -> bool:
    """False when the file already is what resizing would make, so that no quality is lost."""
    size = (facts.width, facts.height)
    cropped = options.mode == "center_crop" and facts.width != facts.height
    same = target_size(*size, options) == size and not cropped
    return not same or facts.orientation != 1 or facts.mime != f"image/{options.format}"


def resize(data: bytes, facts: ImageFacts, options: Resize) -> tuple[bytes, NDArray[np.uint8]]:
    """The resized file, and its pixels ``[h, w, 3]`` uint8 RGB. Raises ImageProblem."""
    width, height = target_size(facts.width, facts.height, options)
    if max(width, height) > _MAX_SIDE_PX[options.format] or width * height > _MAX_PIXELS:
        raise ImageProblem(
            "too_many_pixels", f"would be {width} x {height} as {options.format} after resizing"
        )
    pixels = decode(data, min_side_px=min(width, height))
    pixels = scale(pixels, width, height)
    if options.mode == "center_crop":
        side = min(width, height)
        top, left = (height - side) // 2, (width - side) // 2
        pixels = np.ascontiguousarray(pixels[top : top + side, left : left + side])
    return _encode(pixels, options), pixels


def scale(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resample ``[h, w, c]`` uint8 pixels.

    Bilinear down to 1/1.6, area below that, cubic when enlarging. At 1/1.5, photographs come out
    as close to Lanczos by bilinear as by area (within 1 dB) in a sixth of the time; further down
    bilinear would skip pixels.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    import cv2

    factor = max(pixels.shape[1] / width, pixels.shape[0] / height)
    if factor < 1:
        method = cv2.INTER_CUBIC
    else:
        method = cv2.INTER_LINEAR if factor <= _LINEAR_UP_TO else cv2.INTER_AREA
    return cv2.resize(pixels, (width, height), interpolation=method)  # type: ignore[return-value]


def _encode(pixels: NDArray[np.uint8], options: Resize) -> bytes:
    if options.format == "jpeg":
        encoded: bytes = simplejpeg.encode_jpeg(
            pixels, quality=options.quality, colorspace="RGB", colorsubsampling="420"
        )
        return encoded
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, options.format, quality=options.quality)
    return buffer.getvalue()
