"""Image formats by the endings of files' names."""

from __future__ import annotations

import re

IMAGE_SUFFIXES = (
    *(".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".gif", ".bmp", ".tif", ".tiff"),
    *(".heic", ".heif", ".jxl"),
)
"""Every format that surd decodes; the last three with ``surd[formats]``."""
LOCATION = re.compile(
    rf"\s*(?:https?://\S+|.*(?:{'|'.join(map(re.escape, IMAGE_SUFFIXES))}))\s*", re.IGNORECASE
)
"""A url, or the name of an image file."""
