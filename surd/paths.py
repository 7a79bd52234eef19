"""Folders: those that come with the code, and the cache."""

from __future__ import annotations

import os
from pathlib import Path


def shipped(name: str) -> Path:
    """A folder of the repository, which an installed package has inside itself."""
    package = Path(__file__).parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name


def cache_folder() -> Path:
    """``$SURD_CACHE``, else ``surd`` under ``$XDG_CACHE_HOME`` or ``~/.cache``."""
    given = os.environ.get("SURD_CACHE")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "surd"
