"""The licence that a dataset card names, from what the sources said of each sample."""

from __future__ import annotations

import re
from collections.abc import Iterable

_KNOWN = {
    "cc0": "cc0-1.0",
    "cc0-1.0": "cc0-1.0",
    "public-domain": "cc0-1.0",
    "apache-2.0": "apache-2.0",
    "mit": "mit",
    "openrail": "openrail",
    "creativeml-openrail-m": "creativeml-openrail-m",
    "cdla-permissive-2.0": "cdla-permissive-2.0",
    "odc-by": "odc-by",
    "odbl": "odbl",
}
_CREATIVE_COMMONS = re.compile(r"cc-(by(?:-nc)?(?:-sa|-nd)?)-([234]\.0)")


def hub_licence(licences: Iterable[str | None]) -> str:
    """The Hub's identifier where all samples have one and the same known licence, else ``other``;
    ``unknown`` where nothing is said of any."""
    found = set(licences)
    if found <= {None, ""}:
        return "unknown"
    if len(found) > 1:
        return "other"
    text = re.sub(r"[\s_]+", "-", (found.pop() or "").strip().lower())
    if _CREATIVE_COMMONS.fullmatch(text):
        return text
    return _KNOWN.get(text, "other")
