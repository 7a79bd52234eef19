"""Where surd keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """``$SURD_CACHE``, else ``surd`` under ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    given = os.environ.get("SURD_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "surd"
