"""What a source yields: pages of records, each page with the cursor that brings it again."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field

from surd.params import Params


class SourceParams(Params):
    """What every source takes."""

    limit: int | None = Field(
        default=None, ge=1, description="number of records to look at; default: all"
    )


@dataclass(frozen=True, slots=True)
class Record:
    """One image and what its source says of it. Everything but ``key`` may be unknown."""

    key: str
    """Names the image for ever within its source: a uuid, a url, or a hash of the bytes."""
    source_id: str | None = None
    """The source's own id, as it appears in the raw answer."""
    url: str | None = None
    path: str | None = None
    """A local file, or one inside another, as :mod:`surd.files.local_files` reads it."""
    prompt: str | None = None
    negative_prompt: str | None = None
    simple_prompt: str | None = None
    """What the image shows, said plainly, where the source tells that besides the prompt."""
    captions: tuple[str, ...] = ()
    """What else the source says that the image shows."""
    author: str | None = None
    licence: str | None = None
    nsfw_level: str | None = None
    """``none``, ``soft``, ``mature`` or ``x``; None when the source does not say."""
    model: str | None = None
    page_url: str | None = None
    created_at: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Generator settings as the source gave them: seed, steps, sampler, ..."""


@dataclass(frozen=True, slots=True)
class Page:
    """Some records, and the cursor at which reading again yields this very page."""

    cursor: str | None
    records: list[Record]
    seen: Seen = field(default_factory=lambda: Seen())
    """What was met on the way through this page, on to the first record of the next."""


@dataclass(slots=True)
class Seen:
    """How many files a source has met, and which of them, or of their rows, it passed over."""

    files: int = 0
    passed: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Why -> how many, and the name of the first."""

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Seen:
        """What ``dataclasses.asdict`` and JSON made ``content`` of."""
        passed = {why: (int(n), str(first)) for why, (n, first) in content["passed"].items()}
        return cls(int(content["files"]), passed)

    def pass_over(self, why: str, name: str, count: int = 1) -> None:
        """Count what is no sample."""
        before, first = self.passed.get(why, (0, name))
        self.passed[why] = (before + count, first)

    def add(self, other: Seen) -> None:
        """Count what another has counted."""
        self.files += other.files
        for why, (count, first) in other.passed.items():
            self.pass_over(why, first, count)

    def copy(self) -> Seen:
        """As it is now."""
        return Seen(self.files, dict(self.passed))

    def take(self) -> Seen:
        """All of it; this begins anew."""
        taken = Seen(self.files, self.passed)
        self.files, self.passed = 0, {}
        return taken


def plain_url(value: str) -> str:
    """The address of a site as a recipe may give it. Raises ValueError."""
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("expected an http or https url such as https://example.com")
    return value.rstrip("/")


def sample_id(source: str, key: str) -> str:
    """Stable id of a sample: 128-bit BLAKE2b of source and key, 32 hexadecimal digits.

    Free of position, so neither a second run nor a second source renumbers anything.
    """
    text = f"{source}\0{key}".encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).hexdigest()
