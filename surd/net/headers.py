"""What surd says of itself to a host, and how long a host asks it to wait."""

from __future__ import annotations

import contextlib
import email.utils
import time

from surd import __version__


def user_agent(contact: str | None) -> str:
    """The honest User-Agent: what this is, and whom to ask."""
    return f"surd/{__version__} (image dataset builder; contact: {contact or 'not given'})"


def retry_after_s(header: str | None, now: str | None = None) -> float | None:
    """Seconds to wait, from either form of Retry-After (RFC 9110, section 10.2.3).

    A date is compared with the answer's own, `now`, for the clock of this machine may be wrong.
    """
    if header is None:
        return None
    seconds = header.strip()
    if seconds.isdecimal():
        return float(seconds)
    until = _seconds(header)
    since = _seconds(now) if now is not None else None
    return None if until is None else max(0.0, until - (time.time() if since is None else since))


def _seconds(date: str) -> float | None:
    """Since 1970, of a date as HTTP writes it."""
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return email.utils.parsedate_to_datetime(date).timestamp()
    return None
