"""A small build of everything, that runs long enough to be disturbed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from surd.demo.site import Site

SMALL = {
    "sources.0.requests_per_s": "1000",
    "sources.0.page_size": "20",
    "download.allow_private_addresses": "true",
    "download.retries": "0",
    "caption.model": "demo:captioner",
    "caption.candidates": "2",
    "caption.num_beams": "1",
    "score.clip": "demo:clip",
    "score.nsfw": "none",
    "filter.clip_threshold": "-1",
    "filter.complex_threshold": "null",
    "filter.min_side": "null",
    "filter.duplicates": "[]",
    "part_size": "25",
}
"""A build up to the dataset with the demo's models, in seconds."""


def small_settings(site: Site | None, **changes: str) -> list[str]:
    """Arguments of ``surd build civitai``; names of `changes` with ``__`` for each dot."""
    values: Mapping[str, str] = {
        **SMALL,
        **({"sources.0.base_url": site.url} if site else {}),
        **{name.replace("__", "."): value for name, value in changes.items()},
    }
    return [a for key, value in values.items() for a in ("--set", f"{key}={value}")]


def build_command(site: Site | None, folder: Path, **changes: str) -> list[str]:
    """The build in a process of its own."""
    return surd_command("build", "civitai", "-o", folder, "-q", *small_settings(site, **changes))


def surd_command(*arguments: object) -> list[str]:
    """The command line in a process of its own."""
    return [sys.executable, "-m", "surd", *map(str, arguments)]


def run(command: list[str], **how: object) -> subprocess.CompletedProcess[str]:
    """Run it to its end."""
    return subprocess.run(command, check=False, capture_output=True, text=True, **how)  # type: ignore[call-overload,no-any-return]
