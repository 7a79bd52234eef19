"""What was trained, how long, and with what settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from surd.models.names import public_name
from surd.report.page import Section, body
from surd.report.runs.read import Run
from surd.report.text import visible

_MODELS = ("diffusion", "llm", "layer")
_SIZE = ("steps", "batch_size", "accumulate")
"""Told by themselves, as what is drawn while training is."""


def about_section(run: Run) -> Section:
    """The run in a few lines, and each setting that is not the published one."""
    text = body(
        "runs/about.html.j2",
        run=run,
        settings=run.settings,
        diffusion=public_name(str(run.settings.get("diffusion", ""))),
        llm=public_name(str(run.settings.get("llm", ""))),
        pairs=_product(run),
        changed=list(_changed(run)),
    )
    return Section(run.id, f"Adapter: {run.name}", text)


def _product(run: Run) -> int | None:
    """Pairs that were learned from, each as often as it came, by one process."""
    sizes = [run.step, run.settings.get("batch_size"), run.settings.get("accumulate")]
    whole = [size for size in sizes if isinstance(size, int)]
    return whole[0] * whole[1] * whole[2] if len(whole) == len(sizes) else None


def _changed(run: Run) -> Iterator[tuple[str, str, str]]:
    """Name, value and published value."""
    from surd.adapter.params import TrainAdapterParams
    from surd.stage import lasting

    published = lasting(TrainAdapterParams())
    for name, value in run.settings.items():
        told = name in (*_MODELS, *_SIZE) or name.startswith("validation_")
        if name in published and not told and value != published[name]:
            yield name, _told(value), _told(published[name])


def _told(value: Any) -> str:
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return visible(written, 200) or ""
