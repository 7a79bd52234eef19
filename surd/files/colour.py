"""Colours in sRGB, whatever profile an image has."""

from __future__ import annotations

import contextlib
import io
from functools import lru_cache

from PIL import Image, ImageCms

_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
"""Colour space of a profile (ICC.1:2022, table 19) -> the mode of pixels that it describes."""


def in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """The image with its colours in sRGB, as RGB, or RGBA where it had transparency.

    It is returned as it is where it has no profile, one of sRGB, or one that does not fit.
    """
    mode = profile_mode(profile) if profile else None
    if mode is None or profile is None:
        return image
    image.load()  # for its own errors
    alpha = None
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        layer = image.convert("RGBA")
        alpha = layer.getchannel("A")
        image = layer.convert("L" if mode == "L" else "RGB")
    elif image.mode == "P":
        image = image.convert("RGB")
    if image.mode != mode:
        return image if alpha is None else _with(image.convert("RGB"), alpha)
    transform = _transform(profile, mode)
    if transform is not None:
        with contextlib.suppress(ImageCms.PyCMSError):
            image = ImageCms.applyTransform(image, transform) or image
    return image if alpha is None else _with(image.convert("RGB"), alpha)


def _with(image: Image.Image, alpha: Image.Image) -> Image.Image:
    image.putalpha(alpha)
    return image


@lru_cache(64)
def profile_mode(profile: bytes) -> str | None:
    """The mode of the pixels a profile is for; None for sRGB's, and for one that is no use."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in (ImageCms.getProfileDescription(opened) or "").lower():
            return None
        return _MODES.get(opened.profile.xcolor_space.strip())
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


@lru_cache(64)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(opened, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
