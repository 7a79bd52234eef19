"""Numbers and strangers' text, as people read them."""

from __future__ import annotations

import re
from typing import overload

_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]"
)
"""Controls, and what changes the direction of the text around it (Unicode UAX #9, table 4)."""


@overload
def visible(text: str, max_chars: int = 600) -> str: ...


@overload
def visible(text: str | None, max_chars: int = 600) -> str | None: ...


def visible(text: str | None, max_chars: int = 600) -> str | None:
    """Text with hidden controls written out as ``\\u202e``, cut where it is very long."""
    if text is None:
        return None
    if len(text) > max_chars:
        text = text[: max_chars - 1].rstrip() + "…"
    shown = _HIDDEN.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
    return shown.encode("utf-8", "replace").decode()  # a lone surrogate has no UTF-8


def web_link(url: str | None) -> str | None:
    """The url where it is http or https without a password; None for any other."""
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(url or "")
        safe = (
            parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
        )
    except ValueError:
        return None
    return visible(url, 2000) if safe else None


def number(value: float | None) -> str:
    """``1,234``, ``0.1234``; four digits of what is no whole number; a dash for None."""
    if value is None:
        return "–"
    if isinstance(value, int) or float(value).is_integer():
        return f"{int(value):,}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def share(part: float, whole: float) -> str:
    """``12.3%``; a dash of nothing."""
    return f"{part / whole:.1%}" if whole else "–"


def bytes_(count: float) -> str:
    """``1.2 MB``, with powers of 1000."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} B" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def duration(seconds: float) -> str:
    """``0.4 s``, ``12 s``, ``2 min 5 s``, ``3 h 4 min``."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    minutes, s = divmod(round(seconds), 60)
    hours, m = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {m} min"
    return f"{m} min {s} s" if m else f"{s} s"
