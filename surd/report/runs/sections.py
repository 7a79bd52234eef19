"""The report's sections about a training run: losses, pictures, before and after, measures."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from surd.models.names import public_name
from surd.pages.text import visible
from surd.params import lasting
from surd.recipe.train_adapter import TrainAdapterParams
from surd.report.page import Section, body
from surd.report.runs.ablation import ablation_section
from surd.report.runs.compare import compare_section
from surd.report.runs.evaluation import evaluation_section
from surd.report.runs.losses import losses_section
from surd.report.runs.read import Run, read_run
from surd.report.runs.validation import validation_section

_MODELS = ("diffusion", "llm", "layer")
_SIZE = ("steps", "batch_size", "accumulate")
"""Told by themselves, as what is drawn while training is."""


def _about(run: Run) -> Section:
    """The run in a few lines, and each setting that is not the published one."""
    steps, batch, accumulate = (run.whole(name) for name in _SIZE)
    accumulate = accumulate or 1
    pairs = run.step * batch * accumulate if run.step and batch else None
    reads = run.settings.get("network") == "reader" and run.settings.get("llm_states") != "none"
    learns = run.settings.get("llm_weight", 1)
    use = "reading" if reads else "trained with vectors of" if learns else None
    text = body(
        "runs/about.html.j2",
        run=run,
        steps=steps,
        batch=batch,
        accumulate=accumulate,
        pairs=pairs,
        diffusion=public_name(str(run.settings.get("diffusion", "a diffusion model"))),
        llm=public_name(str(run.settings.get("llm", "a language model"))) if use else None,
        llm_use=use,
        changed=list(_changed(run)),
    )
    return Section(run.id, f"Adapter: {visible(run.name, 80)}", text)


def _changed(run: Run) -> Iterator[tuple[str, str, str]]:
    """Name, value and published value."""
    published = {**TrainAdapterParams.removed, **lasting(TrainAdapterParams())}
    for name, value in run.settings.items():
        told = name in (*_MODELS, *_SIZE) or name.startswith("validation_")
        if name in published and not told and value != published[name]:
            yield name, _told(value), _told(published[name])


def _told(value: Any) -> str:
    written = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return visible(written, 200) or ""


_SECTIONS: tuple[Callable[[Run], Section | None], ...] = (
    _about,
    evaluation_section,
    compare_section,
    validation_section,
    losses_section,
)


def sections(run_folder: str) -> list[Section]:
    """What there is to say of the run in a folder; nothing of a folder without one.

    What a run did not leave has no section: a run that is going on, one that drew nothing, an
    adapter without its log. Ids begin with the folder's name, so that several runs fit on a page.
    Raises SurdError for a file that is broken.
    """
    run = read_run(run_folder)
    if run is None:
        return []
    found = (section(run) for section in _SECTIONS)
    return [one for one in found if one is not None]


def ablation_sections(folder: str) -> list[Section]:
    """Of the folder in which ``surd ablate`` left ``ablation.json``; nothing of any other.

    Raises SurdError for a file that is broken.
    """
    section = ablation_section(Path(folder))
    return [] if section is None else [section]
