"""The settings of a run, which its folder keeps: another run does not mix with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from surd.dataset.published import Published
from surd.errors import SurdError
from surd.params import lasting
from surd.recipe.train_adapter import TrainAdapterParams
from surd.store.storage import Storage

SETTINGS_FILE = "settings.json"


def settings_of(params: TrainAdapterParams, dataset: Published) -> dict[str, Any]:
    """All that an adapter depends on, as JSON values."""
    return lasting(params) | {"dataset": [file["sha256"] for file in dataset.files]}


def check_folder(folder: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
    """Raises SurdError where a run cannot go on in `folder`, or begin anew there."""
    path = folder / SETTINGS_FILE
    try:
        there = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        if not resume and folder.is_dir() and any(folder.iterdir()):
            raise SurdError(
                f"{folder}: is not a training's folder; choose another --output"
            ) from None
        return
    except (OSError, ValueError) as error:
        raise SurdError(f"{path}: cannot be read ({error}); choose another --output") from error
    there = lasting(TrainAdapterParams()) | there  # some settings are younger than the run
    for key, value in settings.items() if resume else ():
        if there.get(key) != value:
            told = "the dataset" if key == "dataset" else f"{key} ({there.get(key)}, now {value})"
            raise SurdError(
                f"{folder}: holds a run with another value of {told}; choose another --output, or "
                "begin anew with --resume none"
            )


def begin_folder(folder: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
    """Note the settings; delete what a killed run left half done, or anew all of an old run."""
    if not resume:
        shutil.rmtree(folder, ignore_errors=True)
    for path in [*folder.rglob(".*.tmp")]:
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    if not (folder / SETTINGS_FILE).is_file():
        text = json.dumps(settings, indent=2) + "\n"
        Storage(str(folder)).write_bytes(SETTINGS_FILE, text.encode())
