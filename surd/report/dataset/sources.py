"""What the sources had: images, prompts by generator, and what was lost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surd.pages.text import visible
from surd.report.page import Section, body
from surd.stages.collected import Collected

_SHOWN = 25


def section(found: Collected) -> Section | None:
    """None where nothing is collected yet."""
    about = found.as_json()
    if not about["images"]:
        return None
    text = body(
        "sources.html.j2",
        about=about,
        generators=[(visible(name, 80), n) for name, n in about["by_generator"].items()][:_SHOWN],
        losses=[
            (title, heading, _rows(about[key]))
            for key, title, heading in (
                ("not_understood", "Text that was not understood", "where it lies"),
                ("passed_over", "Passed over", "why"),
            )
            if about[key]
        ],
    )
    return Section("sources", "What the sources had", text)


def _rows(losses: Mapping[str, Any]) -> list[tuple[str, int, str]]:
    return [
        (visible(name, 80), entry["count"], visible(entry["example"], 160))
        for name, entry in losses.items()
    ][:_SHOWN]
