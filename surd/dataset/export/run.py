"""export: write a published dataset in another form, completely or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from surd.dataset.export.csv_table import write_csv
from surd.dataset.export.imagefolder import write_imagefolder
from surd.dataset.export.tars import write_webdataset
from surd.dataset.published import Published, open_published
from surd.errors import SurdError
from surd.progress import Tick
from surd.store.storage import local_path

FORMS: Mapping[str, Callable[[Published, Path, Tick], None]] = {
    "surd": write_imagefolder,
    "webdataset": write_webdataset,
    "csv": write_csv,
}
"""Form -> the function that writes it into an empty folder."""


@dataclass(frozen=True)
class ExportSummary:
    """What was written."""

    form: str
    location: str
    splits: dict[str, int]
    """Split -> samples."""


def export(
    location: str | Path, form: str, out: str | Path, tick: Tick = lambda counts: None
) -> ExportSummary:
    """Write the dataset at ``location`` (or in the workspace there) to the new folder ``out``.

    It is written beside ``out`` and renamed at the end; what a killed run left is written anew.
    Raises SurdError when the form is unknown, nothing is published, or ``out`` is not empty.
    """
    if form not in FORMS:
        raise SurdError(f"{form}: unknown format; formats: {', '.join(FORMS)}")
    dataset = open_published(str(location))
    out = local_path(out).absolute()
    _check_free(out)
    temporary = out.parent / f".{out.name}.surd-export.tmp"
    try:
        if temporary.exists():
            shutil.rmtree(temporary)
        temporary.mkdir(parents=True)
        FORMS[form](dataset, temporary, tick)
        os.sync()
        if out.exists():
            out.rmdir()
        temporary.rename(out)
    except OSError as error:
        raise SurdError(
            f"{out}: cannot write here: {error.strerror or error}; fix that and rerun the "
            "same command"
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return ExportSummary(form, str(out), dataset.splits)


def _check_free(out: Path) -> None:
    if any(out.iterdir()) if out.is_dir() else out.exists():
        raise SurdError(f"{out}: already exists; choose another folder, or delete it")
