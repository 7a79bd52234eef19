"""Files of weights that cannot be whole: cut short, or only named by Git."""

from __future__ import annotations

import zipfile
from pathlib import Path

_POINTER = b"version https://git-lfs.github.com/spec/"
"""https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md"""
_KINDS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_ZIP = b"PK"
"""Before what torch saves, whose directory is at the end."""


def why_damaged(path: Path) -> str | None:
    """What is wrong with a file of weights, and the mend, in one line that names it.

    None where nothing is found. Only its beginning and its end are read.
    """
    from safetensors import SafetensorError, safe_open

    with path.open("rb") as file:
        begins = file.read(len(_POINTER))
    if begins == _POINTER:
        return f"{path}: is a Git LFS pointer, not the weights; fetch them with: git lfs pull"
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt"):
                return None
        if begins and (not begins.startswith(_ZIP) or zipfile.is_zipfile(path)):
            return None
    except SafetensorError:
        pass
    return f"{path}: is cut short, or no weights; download it again"


def damage_in(found: Path) -> str | None:
    """What is wrong with the first damaged file of weights of a model, a file or a folder."""
    files = [found] if found.is_file() else sorted(found.glob("*"))
    weights = (path for path in files if path.suffix in _KINDS)
    return next(filter(None, map(why_damaged, weights)), None)
