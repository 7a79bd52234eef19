"""What was found in the sources, counted: images, prompts by generator, and all that was lost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from surd.untrusted import parse_json

NOT_UNDERSTOOD = "not_understood"
"""Key in a sample's settings: the texts inside the image that nothing was made of, by place."""
BESIDE = "sidecar_error"
"""Key in a sample's settings: what is wrong with a file beside the image."""
NO_GENERATOR = "generator not stated"
_MAX_KINDS = 200
_OTHERS = "(others)"
_EXAMPLE_CHARS = 80


@dataclass
class Tally:
    """Counts of samples; those of several parts add up."""

    images: int = 0
    with_prompt: int = 0
    with_caption: int = 0
    """Those with a simple prompt from the source."""
    generators: dict[str, int] = field(default_factory=dict)
    """Of the samples with a prompt, what made the image, as it says itself."""
    not_understood: dict[str, tuple[int, str]] = field(default_factory=dict)
    """Where text lies that nothing was made of -> how many samples have such, and an example."""

    def add(self, other: Tally) -> None:
        """Count what another has counted."""
        self.images += other.images
        self.with_prompt += other.with_prompt
        self.with_caption += other.with_caption
        for name, count in other.generators.items():
            name = name if name in self.generators or len(self.generators) < _MAX_KINDS else _OTHERS
            self.generators[name] = self.generators.get(name, 0) + count
        for where, (count, example) in other.not_understood.items():
            self._miss(where, example, count)

    def count(self, row: Mapping[str, Any]) -> None:
        """Count a row of samples, of which ``prompt``, ``simple_prompt`` and ``settings`` are
        read."""
        settings = _settings(row.get("settings"))
        self.images += 1
        self.with_caption += bool(row.get("simple_prompt"))
        if row.get("prompt"):
            self.with_prompt += 1
            name = settings.get("generator")
            if not isinstance(name, str) or name in ("", "unknown"):
                name = NO_GENERATOR
            name = name[:80]
            self.generators[name] = self.generators.get(name, 0) + 1
        source = row.get("source_id") or row.get("path") or row.get("url") or ""
        missed = settings.get(NOT_UNDERSTOOD)
        for where, text in missed.items() if isinstance(missed, dict) else ():
            self._miss(where, f"{source}: {text}")
        if isinstance(settings.get(BESIDE), str):
            self._miss("file beside the image", f"{source}: {settings[BESIDE]}")

    def _miss(self, where: str, example: str, count: int = 1) -> None:
        known = where in self.not_understood or len(self.not_understood) < _MAX_KINDS
        where = where if known else _OTHERS
        before, first = self.not_understood.get(where, (0, " ".join(example.split())))
        if len(first) > _EXAMPLE_CHARS:
            first = first[: _EXAMPLE_CHARS - 1] + "…"
        self.not_understood[where] = (before + count, first)


def tally(rows: Iterable[Mapping[str, Any]]) -> Tally:
    """The tally of rows of samples."""
    counted = Tally()
    for row in rows:
        counted.count(row)
    return counted


def from_json(content: Mapping[str, Any]) -> Tally:
    """The tally that ``dataclasses.asdict`` and JSON made ``content`` of."""
    missed = {where: (int(n), str(text)) for where, (n, text) in content["not_understood"].items()}
    return Tally(**{**content, "not_understood": missed})


def to_json(counted: Tally) -> dict[str, Any]:
    """For the footer of a part."""
    return asdict(counted)


def _settings(text: str | None) -> dict[str, Any]:
    try:
        settings = parse_json(text) if text else {}
    except ValueError:
        return {}
    return settings if isinstance(settings, dict) else {}
