"""What was trained, how long, and with what settings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from surd.models.names import public_name
from surd.pages.text import visible
from surd.report.page import Section, body
from surd.report.runs.read import Run

_MODELS = ("diffusion", "llm", "layer")
_SIZE = ("steps", "batch_size", "accumulate")
"""Told by themselves, as what is drawn while training is."""


def about_section(run: Run) -> Section:
    """The run in a few lines, and each setting that is not the published one."""
    steps, batch, accumulate = (run.whole(name) for name in _SIZE)
    accumulate = accumulate or 1
    pairs = run.step * batch * accumulate if run.step and batch else None
    text = body(
        "runs/about.html.j2",
        run=run,
        steps=steps,
        batch=batch,
        accumulate=accumulate,
        pairs=pairs,
        diffusion=public_name(str(run.settings.get("diffusion", "a diffusion model"))),
        llm=public_name(str(run.settings.get("llm", "a language model"))),
        changed=list(_changed(run)),
    )
    return Section(run.id, f"Adapter: {visible(run.name, 80)}", text)


def _changed(run: Run) -> Iterator[tuple[str, str, str]]:
    """Name, value and published value."""
    from surd.params import lasting
    from surd.recipe.train_adapter import TrainAdapterParams

    published = {**TrainAdapterParams.removed, **lasting(TrainAdapterParams())}
    for name, value in run.settings.items():
        told = name in (*_MODELS, *_SIZE) or name.startswith("validation_")
        if name in published and not told and value != published[name]:
            yield name, _told(value), _told(published[name])


def _told(value: Any) -> str:
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return visible(written, 200) or ""
