"""Folders that come with surd beside its code."""

from __future__ import annotations

from pathlib import Path


def shipped(name: str) -> Path:
    """A folder of the repository, which an installed package has inside itself."""
    package = Path(__file__).parent
    inside = package / name
    return inside if inside.is_dir() else package.parent / name
