"""SwarmUI: ``sui_image_params`` in a JSON object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surd.text.generation import found
from surd.text.generation.found import Generation


def read(fields: Mapping[str, Any]) -> Generation | None:
    """Read the object. Its ``prompt`` has chosen among what ``original_prompt`` left open."""
    inner = fields.get("sui_image_params")
    if not isinstance(inner, Mapping):
        return None
    return Generation(
        generator="SwarmUI",
        prompt=found.first(inner, ("prompt", "original_prompt")),
        negative_prompt=found.first(inner, ("negativeprompt", "original_negativeprompt")) or None,
        model=found.model_name(inner.get("model")),
        settings=found.settings(inner, ("prompt", "negativeprompt")),
    )
