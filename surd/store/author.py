"""Who decides by hand, and when."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime

_MAX_CHARS = 100


def author() -> str:
    """``SURD_AUTHOR`` of the environment, else the name that this user logged in with."""
    try:
        name = os.environ.get("SURD_AUTHOR") or getpass.getuser()
    except (KeyError, OSError):  # a user without a name, as containers have
        name = ""
    name = "".join(c if c.isprintable() else " " for c in name)
    return " ".join(name.split())[:_MAX_CHARS] or "unknown"


def now() -> str:
    """In ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
