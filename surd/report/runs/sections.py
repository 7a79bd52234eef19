"""The report's sections about a training run: losses, pictures, before and after, measures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from surd.report.page import Section
from surd.report.runs.ablation import ablation_section
from surd.report.runs.about import about_section
from surd.report.runs.compare import compare_section
from surd.report.runs.evaluation import evaluation_section
from surd.report.runs.losses import losses_section
from surd.report.runs.read import Run, read_run
from surd.report.runs.validation import validation_section

_SECTIONS: tuple[Callable[[Run], Section | None], ...] = (
    about_section,
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
