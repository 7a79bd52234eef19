"""What the doctor says of one thing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing looked at."""

    what: str
    state: Literal["ok", "note", "BAD"]
    """A note is worth knowing and stops nothing; with BAD something of surd will not work."""
    found: str
    mend: str | None = None
