"""Does this machine have what surd needs?"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

_LIBRARIES = (
    "pyarrow",
    "pydantic",
    "aiohttp",
    "requests",
    "pillow",
    "simplejpeg",
    "opencv-python-headless",
    "sd-parsers",
    "ftfy",
    "py3langid",
    "torch",
    "torchvision",
    "open_clip_torch",
    "transformers",
    "diffusers",
    "accelerate",
)


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    ok: bool
    found: str
    mend: str | None = None


def examine() -> list[Finding]:
    """Look at Python, the libraries, the disk and the tokens; values of tokens are not shown."""
    return [_python(), *map(_library, _LIBRARIES), _token_counter(), _disk(), *_tokens()]


def _python() -> Finding:
    enough = sys.version_info >= (3, 10)
    return Finding("python", enough, platform.python_version(), "install Python 3.10 or newer")


def _library(name: str) -> Finding:
    try:
        return Finding(name, True, importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        return Finding(name, False, "not installed", f"pip install {name}")


def _token_counter() -> Finding:
    from surd.clip_tokens import load

    try:
        tokens = load()(["two red cups"])[0]
    except Exception as error:
        return Finding("CLIP vocabulary", False, str(error), "pip install -U open_clip_torch")
    return Finding("CLIP vocabulary", tokens == 3, f"'two red cups' is {tokens} tokens")


def _disk() -> Finding:
    free_gb = shutil.disk_usage(Path.cwd()).free / 1e9
    try:
        with tempfile.NamedTemporaryFile(dir=Path.cwd()):
            return Finding("disk", free_gb > 1, f"{free_gb:,.0f} GB free here", "free some space")
    except OSError as error:
        return Finding("disk", False, f"cannot write here: {error.strerror}", "use another folder")


def _tokens() -> list[Finding]:
    return [
        Finding(name, True, "set" if os.environ.get(name) else f"not set; only for {use}")
        for name, use in (("CIVITAI_API_TOKEN", "more of Civitai"), ("HF_TOKEN", "gated models"))
    ]
