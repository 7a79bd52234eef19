"""How long each stage took, and how fast it went."""

from __future__ import annotations

from surd.report.page import Section, body
from surd.store.workspace import Manifest

_ORDER = (
    "collect", "download", "prompts", "caption", "score", "dedup", "filter", "publish", "embed_llm",
)  # fmt: skip


def section(manifest: Manifest) -> Section | None:
    """From the manifest; None before any stage has run."""
    known = [name for name in _ORDER if name in manifest.stages]
    runs = [
        (name, manifest.stages[name]) for name in [*known, *sorted({*manifest.stages} - {*known})]
    ]
    if not runs:
        return None
    longest = max(run.seconds for _, run in runs) or 1.0
    rows = [
        {
            "stage": name.replace("_", "-"),
            "run": run,
            "rate": run.rows / run.seconds if run.seconds else None,
            "bar": 100 * run.seconds / longest,
            "when": run.finished_at.replace("T", " ").replace("+00:00", " UTC"),
        }
        for name, run in runs
    ]
    text = body(
        "timing.html.j2",
        rows=rows,
        total=sum(run.seconds for _, run in runs),
        versions=", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    )
    return Section("timing", "Times and rates", text)
