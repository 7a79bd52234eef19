"""Earlier results in a folder: new ones of other settings do not replace them."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from itertools import count
from pathlib import Path
from typing import Any

from surd.untrusted import parse_json, read_regular

log = logging.getLogger("surd")

_SUFFIXES = (".parquet", ".md", ".json")
"""The JSON file last: with it, all of an earlier result has another name."""


def keep_earlier(folder: Path, name: str, settings: Mapping[str, Any]) -> None:
    """Before ``NAME.json`` and what is beside it are written: rename what is there to ``NAME-1``,
    or the next free number, which is told. Results of the same settings may be replaced.

    `settings` are those keys of the new JSON file that are no results.
    """
    there = folder / f"{name}.json"
    if not there.is_file() or _has(there, json.loads(json.dumps(settings))):
        return
    number = next(n for n in count(1) if not (folder / f"{name}-{n}.json").exists())
    kept = []
    for suffix in _SUFFIXES:
        path = folder / f"{name}{suffix}"
        if path.is_file():
            kept.append(path.replace(folder / f"{name}-{number}{suffix}").name)
    log.warning("%s: earlier results, of other settings, are kept as %s", folder, ", ".join(kept))


def _has(path: Path, settings: Mapping[str, Any]) -> bool:
    """Whether a JSON file has these keys and values; not where it cannot be read."""
    try:
        found = parse_json(read_regular(path))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {k: found.get(k) for k in settings} == settings
