"""What the demo's site lists and serves."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Picture:
    """An image to list and serve. Pictures with the same uuid are served as the last of them."""

    id: int
    uuid: str
    data: bytes
    mime: str = "image/jpeg"
    width: int = 0
    height: int = 0
    prompt: str | None = None
    negative_prompt: str | None = None
    username: str = "painter"
    nsfw_level: str = "None"  # None | Soft | Mature | X
    model_id: int = 1
    version_id: int = 1
    created_at: str = "2026-01-01T00:00:00.000Z"
    meta: Mapping[str, object] = field(default_factory=dict)  # seed, steps, sampler, cfgScale, ...
    fault: str | None = None  # a name in FAULTS
    type: str = "image"  # image | video
    url: str | None = None  # listed in place of the true address
