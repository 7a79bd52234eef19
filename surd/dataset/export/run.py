"""export: write a published dataset in another form, completely or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow.compute as pc

from surd.dataset.export.csv_table import write_csv
from surd.dataset.export.imagefolder import write_diffusers, write_imagefolder
from surd.dataset.export.job import TEXTS, Job, Wish
from surd.dataset.export.tars import write_webdataset
from surd.dataset.export.trainers import (
    write_ai_toolkit,
    write_kohya,
    write_onetrainer,
    write_simpletuner,
)
from surd.dataset.published import open_published
from surd.errors import SurdError
from surd.progress import Tick
from surd.store.beside import temporary_beside
from surd.store.marks import EXPORT, SAYING
from surd.store.storage import local_path
from surd.store.workspace import Workspace


@dataclass(frozen=True)
class Form:
    """A form that other tools read."""

    write: Callable[[Job], None]
    """Fills an empty folder."""
    takes: frozenset[str] = frozenset()
    """Fields of Wish that mean something to it."""
    several: bool = False
    """Whether a sample may have more than one text."""
    settings: str | None = None
    """The file to give to the tool."""


_TEXT = frozenset({"texts", "trigger"})
_FILES = frozenset({"link"})
_TRAINER = _TEXT | _FILES | {"repeats"}
FORMS: Mapping[str, Form] = {
    "imagefolder": Form(write_imagefolder, _FILES),
    "surd": Form(write_imagefolder, _FILES),
    "diffusers": Form(write_diffusers, _TEXT | _FILES, several=True),
    "kohya": Form(write_kohya, _TRAINER, several=True, settings="dataset.toml"),
    "onetrainer": Form(write_onetrainer, _TRAINER, several=True, settings="concepts.json"),
    "simpletuner": Form(
        write_simpletuner, _TRAINER, several=True, settings="multidatabackend.json"
    ),
    "ai-toolkit": Form(write_ai_toolkit, _TRAINER, settings="datasets.yaml"),
    "webdataset": Form(write_webdataset, _TEXT),
    "csv": Form(write_csv),
}
"""By their names; ``surd`` is the one of the published SURD dataset, an imagefolder."""

_OPTIONS = {"texts": "--text", "trigger": "--trigger", "repeats": "--repeats", "link": "--link"}


@dataclass(frozen=True)
class ExportSummary:
    """What was written."""

    form: str
    location: str
    splits: dict[str, int]
    """Split -> samples."""
    left_out: dict[str, int]
    """Why -> samples."""
    converted: int
    """Images that became PNGs, because the tool would not read them or not turn them."""
    linked: int | None
    """Images that are hard links; None where none were asked for."""
    settings: str | None
    """The file to give to the tool."""


def export(
    location: str | Path,
    form: str,
    out: str | Path,
    tick: Tick = lambda counts: None,
    wish: Wish | None = None,
) -> ExportSummary:
    """Write the dataset at ``location`` (or in the workspace there) to the new folder ``out``.

    It is written beside ``out`` and renamed at the end; what a killed run left is written anew.
    Raises SurdError when the form is unknown or does not take what is wished, nothing is published,
    no sample has such a text, or ``out`` is not empty.
    """
    if form not in FORMS:
        raise SurdError(f"{form}: unknown format; formats: {', '.join(FORMS)}")
    wish = wish or Wish()
    _check_wish(form, wish)
    dataset = open_published(str(location))
    out = local_path(out).absolute()
    _check_free(out)
    originals = _originals(str(location)) if wish.link else {}
    temporary = _temporary(out)
    job = Job(dataset, temporary, out, wish, originals, tick)
    try:
        temporary.mkdir(parents=True)
        FORMS[form].write(job)
        if job.left_out and not any(job.done[split] for split in dataset.splits):
            raise SurdError(f"{location}: {_of(job.left_out)}; nothing to export")
        (temporary / EXPORT).write_text(SAYING[EXPORT], encoding="ascii")
        os.sync()
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    except UnicodeEncodeError as error:
        raise SurdError(f"{out}: its name is not valid UTF-8; choose another --output") from error
    except OSError as error:
        raise _cannot_write(out, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    settings = FORMS[form].settings
    return ExportSummary(
        form,
        str(out),
        {split: job.done[split] for split in dataset.splits},
        dict(job.left_out),
        job.done["converted"],
        job.done["linked"] if wish.link else None,
        str(out / settings) if settings else None,
    )


def _of(left_out: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} samples {why}" for why, count in left_out.items())


def _check_wish(form: str, wish: Wish) -> None:
    """Raises SurdError for what the form has no place for, and for an empty or broken trigger."""
    for name, value in asdict(wish).items():
        if value and name not in FORMS[form].takes:
            raise SurdError(f"{form}: takes no {_OPTIONS[name]}; leave it out")
    if len(wish.columns()) > 1 and not FORMS[form].several:
        one = ", ".join(TEXTS)
        raise SurdError(f"{form}: holds one text a sample; choose one with --text: {one}")
    if wish.trigger and (not wish.trigger.strip() or not wish.trigger.isprintable()):
        raise SurdError("--trigger: must be words on one line")


def _originals(location: str) -> dict[str, str]:
    """Id of a sample -> the local file it was collected from. Raises SurdError."""
    workspace = Workspace(location)
    try:
        workspace.read_manifest()
    except SurdError as error:
        raise SurdError(f"--link needs the workspace: {error}") from error
    found: dict[str, str] = {}
    for part in workspace.parts("samples"):
        table = workspace.read("samples", part, ["id", "path"])
        table = table.filter(pc.is_valid(table["path"]))
        found.update(zip(*(table[name].to_pylist() for name in ("id", "path")), strict=True))
    return found


def _temporary(out: Path) -> Path:
    try:
        return temporary_beside(out)
    except OSError as error:
        raise _cannot_write(out, error) from error


def _cannot_write(out: Path, error: OSError) -> SurdError:
    why = error.strerror or error
    return SurdError(f"{out}: cannot write here: {why}; fix that and rerun the same command")


def _check_free(out: Path) -> None:
    if any(out.iterdir()) if out.is_dir() else out.exists():
        raise SurdError(f"{out}: already exists; choose another folder, or delete it")
