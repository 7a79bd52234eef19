"""What a fetch may cost, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What a fetch may cost and where it may go."""

    max_bytes: int
    max_redirects: int
    connect_timeout_s: float
    stall_timeout_s: float
    total_timeout_s: float
    retries: int
    max_retry_after_s: float
    respect_noai: bool
    respect_robots: bool
    allowed_networks: tuple[str, ...] | None
    """Networks allowed besides public addresses; None allows every address."""
    use_proxy: bool = False
    """Through the environment's proxies; where names lead is then for those to judge."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """The outcome of a fetch. ``status`` is one of ``schema.IMAGE_STATUSES``."""

    status: str
    detail: str | None = None
    http_status: int | None = None
    body: bytes | None = None
