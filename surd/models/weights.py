"""Files of weights that cannot be whole: cut short, or only named by Git."""

from __future__ import annotations

import zipfile
from pathlib import Path

_POINTER = b"version https://git-lfs.github.com/spec/"
"""https://github.com/git-lfs/git-lfs/blob/main/docs/spec.md"""
_KINDS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_ZIP, _PICKLE = b"PK", b"\x80"
"""Before what torch saves: an archive, whose directory is at the end; once it was a pickle."""
_HEADER = slice(8, 9), b"{"
"""After its length, safetensors begins with JSON: https://github.com/huggingface/safetensors."""


def why_damaged(path: Path) -> str | None:
    """What is wrong with a file of weights, and the mend, in one line that names it.

    None where nothing is found. Only its beginning and its end are read.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():  # but for a link, as in the hub's cache; a pipe would never end
        return f"{path}: is missing; download the model again"
    if (pointer := _why_pointer(path)) is not None:
        return pointer
    with path.open("rb") as file:
        begins = file.read(_HEADER[0].stop)
    of_torch, place = begins.startswith((_ZIP, _PICKLE)), _HEADER[0]
    if path.suffix == ".safetensors":
        if of_torch and begins[place] != _HEADER[1]:
            return f"{path}: is not in the format its name says; rename it to {path.stem}.ckpt"
        try:
            with safe_open(path, "pt"):
                return None
        except SafetensorError:
            pass
    elif begins[place] == _HEADER[1]:
        return f"{path}: is not in the format its name says; rename it to {path.stem}.safetensors"
    elif of_torch and (begins.startswith(_PICKLE) or is_zip(path)):
        return None
    return f"{path}: is cut short, or no weights; download it again"


def is_zip(path: Path) -> bool:
    """Whether a file is a zip. Raises nothing for one whose directory Python does not read."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False


def damage_in(found: Path) -> str | None:
    """What is wrong with the first damaged file of a model, a file or a folder."""
    files = [found] if found.is_file() else sorted(found.glob("*"))
    weights = (why_damaged(path) for path in files if path.suffix in _KINDS)
    others = (_why_pointer(path) for path in files if path.is_file())
    return next(filter(None, (*weights, *others)), None)


def _why_pointer(path: Path) -> str | None:
    with path.open("rb") as file:
        if file.read(len(_POINTER)) != _POINTER:
            return None
    return f"{path}: is a Git LFS pointer, not the file; fetch it with: git lfs pull"
