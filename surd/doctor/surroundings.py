"""Disk, caches, limits, the hub and tokens."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from surd.doctor.finding import Finding
from surd.pages.text import bytes_

_LITTLE, _MODELS = 1e9, 10e9
"""Bytes that are free."""
_FEW_FILES = 1024


def disk() -> Iterator[Finding]:
    """Whether files can be written here, and how many."""
    here = Path.cwd()
    try:
        with tempfile.NamedTemporaryFile(dir=here):
            pass
    except OSError as error:
        yield Finding("disk", "BAD", f"cannot write here: {error.strerror}", "use another folder")
        return
    free = shutil.disk_usage(here).free
    if free < _LITTLE:
        yield Finding("disk", "BAD", f"{bytes_(free)} free here", "free some space")
    else:
        yield Finding("disk", "ok", f"{bytes_(free)} free here")


def caches() -> Iterator[Finding]:
    """Where models come to lie, and whether there is room for them."""
    from huggingface_hub import constants

    from surd.paths import cache_folder

    hub = Path(constants.HF_HUB_CACHE).expanduser()
    for what, folder, move in (
        ("Hugging Face cache", hub, "HF_HOME"),
        ("surd's cache", cache_folder(), "SURD_CACHE"),
    ):
        there = _existing(folder)
        free = shutil.disk_usage(there).free
        if not os.access(there, os.W_OK):
            yield Finding(
                what, "BAD", f"{folder}: not writable", f"point {move} to a writable folder"
            )
        elif free < _MODELS:
            found = f"{folder}: {bytes_(free)} free; models take 1 to 30 GB each"
            yield Finding(what, "note", found, f"point {move} to a larger disk")
        else:
            yield Finding(what, "ok", f"{folder}: {bytes_(free)} free")


def _existing(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.is_dir())


def open_files() -> Iterator[Finding]:
    """How many files and sockets one process may have."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < _FEW_FILES:
        yield Finding(
            "open files", "note", f"{soft} at once; downloads need more", "ulimit -n 4096"
        )
    else:
        yield Finding("open files", "ok", f"{soft:,} at once" if soft > 0 else "no limit")


def hub() -> Iterator[Finding]:
    """Whether the Hugging Face Hub, or the one HF_ENDPOINT names, answers."""
    from surd.models import hub as asked

    told = asked.told_offline()
    if told is not None:
        found = f"not contacted, since {told} is set; models come from the cache"
        yield Finding("hub", "note", found, f"unset {told} to download")
        return
    place = asked.endpoint()
    mend = "check network and proxy; cached models and local folders work without the hub"
    try:
        status = asked.ask()
    except ConnectionError as error:
        yield Finding("hub", "note", f"{place} cannot be reached ({error})", mend)
        return
    if status >= 500:
        yield Finding("hub", "note", f"{place} answered with {status}", mend)
    else:
        yield Finding("hub", "ok", f"{place} answers")


def tokens() -> Iterator[Finding]:
    """Which are set; never their values."""
    from huggingface_hub import constants

    if os.environ.get("HF_TOKEN"):
        found = "set"
    elif Path(constants.HF_TOKEN_PATH).is_file():
        found = "from hf auth login"
    else:
        found = "not set; only needed for gated models and surd push"
    yield Finding("HF_TOKEN", "ok", found)
    civitai = bool(os.environ.get("CIVITAI_API_TOKEN"))
    yield Finding(
        "CIVITAI_API_TOKEN", "ok", "set" if civitai else "not set; Civitai shows more with one"
    )
