"""The settings of a run, which its folder keeps: another run does not mix with it."""

from __future__ import annotations

import json
import logging
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from surd.adapter.files import CONFIG_FILE, WEIGHTS_FILE, read_config
from surd.dataset.published import Published
from surd.errors import ModelError, SurdError, one_line
from surd.llm.embeddings import TextVectors
from surd.models.hub import identity_of, is_same
from surd.models.weights import why_damaged
from surd.params import lasting
from surd.recipe.train_adapter import TrainAdapterParams
from surd.store.marks import RUN, SAYING
from surd.store.storage import Storage, is_temporary
from surd.training.card import CARD, CURVES, PICTURES, is_edited
from surd.training.early_stopping import BEST
from surd.training.logs import FOLDER, LOG_FILE, PROMPTS_FILE, SCORES_FILE
from surd.training.run_folder import checkpoints, is_half_checkpoint, remove_checkpoint
from surd.training.start import Start
from surd.untrusted import parse_json, read_regular

log = logging.getLogger("surd")

SETTINGS_FILE = "settings.json"
_LOCK = ".lock"
_ENDLESS = ("constant", "constant_with_warmup")
"""Schedules of the learning rate that are the same however many steps are to come."""
_FORMAT = "surd-run-1"
"""What marks a folder as a run's. Runs of earlier versions are known by their settings."""
_EVALUATED = tuple(
    f"evaluation{number}.{suffix}"
    for number in ("", "-[0-9]*")
    for suffix in ("json", "md", "parquet")
)
"""What evaluations say of weights that a longer training replaces."""
_OF_A_RUN = (
    *(WEIGHTS_FILE, CONFIG_FILE, LOG_FILE, CARD, CURVES, PICTURES, SCORES_FILE),
    *(f"{FOLDER}/{PROMPTS_FILE}", f"{FOLDER}/*/[0-9][0-9][0-9]*-[0-9]*.png"),
    *(f"{BEST}/{WEIGHTS_FILE}", f"{BEST}/{CONFIG_FILE}"),
    *_EVALUATED,
    "rewriting/*.json",
    "surd-adapter/**/events.out.tfevents.*",  # of TensorBoard
)
"""What training and evaluation write, weights first: without them no run is done."""
_CONTENT = {
    "dataset": "the dataset",
    "vectors": "the language model's vectors",
    "diffusion_identity": "the files of the diffusion model",
    "sentences": "the captions",
    "start": "the adapter it starts from (--from)",
}
"""Settings that are digests -> what they are of. Some are younger than a run."""
_OF_VECTORS = ("vectors", "llm", "layer")
"""Settings that change nothing where no loss asks for the language model's vectors."""
_REMOVED = {
    key: value
    for key, value in TrainAdapterParams.removed.items()
    if not key.startswith("validation")  # of which nothing is learned
}


def settings_of(
    params: TrainAdapterParams,
    dataset: Published,
    vectors: TextVectors | None,
    sentences: Sequence[str] | None,
    start: Start | None,
) -> dict[str, Any]:
    """All that an adapter depends on, as JSON values.

    `sentences` are digests of the captions, where more than those of the dataset are used;
    `vectors` are None where no loss asks for them.
    """
    return lasting(params) | {
        "layer": vectors.layer if vectors is not None else params.layer,
        "diffusion_identity": identity_of(params.diffusion),
        "dataset": [file["sha256"] for file in dataset.files],
        "vectors": vectors.digest if vectors is not None else None,
        "sentences": list(sentences) if sentences is not None else None,
        "start": start.digest if start is not None else None,
    }


def check_folder(folder: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
    """Raises SurdError where a run cannot go on in `folder`, or begin anew there.

    More steps are no other run, with a learning rate that does not depend on their number.
    """
    there = _settings_in(folder)
    if there is None:
        return
    settings = {**_REMOVED, **settings}
    younger = {**_REMOVED, **lasting(TrainAdapterParams()), "start": None}  # than the run may be
    there = younger | there
    unused = _OF_VECTORS if settings["vectors"] is None else ()
    for key, value in settings.items() if resume else ():
        if key in unused or _agree(key, there.get(key, value if key in _CONTENT else None), value):
            continue
        if key == "steps" and value > there["steps"]:
            if there["schedule"] in _ENDLESS:
                continue
            schedule = one_line(there["schedule"], 40)
            raise SurdError(
                f"{folder}: its {schedule} schedule ends at step {there['steps']:,}; start another "
                f"run from it with --from {folder} and another --output, or start over with "
                "--resume none"
            )
        told = _CONTENT.get(key, f"{key} ({one_line(there.get(key))}, now {one_line(value)})")
        raise SurdError(
            f"{folder}: holds a run that differs in {told}; choose another --output, or "
            "start over with --resume none"
        )


def _agree(key: str, there: Any, now: Any) -> bool:
    if key == "layer" and there == -1:  # as earlier versions noted the deepest one
        return True
    if key == "diffusion_identity" and there is not None:
        return is_same(there, now)
    return bool(there == now)


def is_done(folder: Path, steps: int) -> bool:
    """Whether the adapter in `folder` is the one of so many steps."""
    weights = folder / WEIGHTS_FILE
    try:
        config = read_config(folder)
    except ModelError:
        return False
    asked = config.get("training", {}).get("steps") if "stopped" in config else config.get("step")
    done = asked == steps
    return done and weights.is_file() and why_damaged(weights) is None


def _settings_in(folder: Path) -> dict[str, Any] | None:
    """Of the run in a folder; None where nothing is. Raises SurdError where something else is."""
    path = folder / SETTINGS_FILE
    try:
        names = sorted(one.name for one in folder.iterdir())
        there = parse_json(read_regular(path)) if SETTINGS_FILE in names else None
    except FileNotFoundError:
        return None
    except NotADirectoryError:
        raise SurdError(f"{folder}: is a file; choose another --output") from None
    except (OSError, ValueError) as error:
        raise SurdError(f"{path}: cannot be read ({error}); choose another --output") from error
    if isinstance(there, dict) and _is_of_surd(there):
        if not isinstance(there.get("steps", 0), int):
            raise SurdError(f"{path}: steps: not a whole number; choose another --output")
        return there
    others = [name for name in names if name not in (_LOCK, RUN) and not is_temporary(name)]
    if others:
        named = SETTINGS_FILE if there is not None else others[0]
        raise SurdError(
            f"{folder}: holds {named}, which surd train-adapter did not write; choose a new or "
            "empty folder as --output"
        )
    return None


def _is_of_surd(there: Mapping[str, Any]) -> bool:
    """By its mark; without one, by what earlier versions wrote and nothing else would hold."""
    if "format" in there:
        return bool(there["format"] == _FORMAT)
    digests = there.get("dataset")
    return (
        {"diffusion", "llm", "adapter_weight", "steps"} <= there.keys()
        and isinstance(digests, list)
        and all(re.fullmatch("[0-9a-f]{64}", str(digest)) for digest in digests)
    )


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold the folder of a run for writing. Raises SurdError where another process does."""
    from filelock import FileLock, Timeout

    path = folder / _LOCK
    lock = FileLock(path, timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise SurdError(
            f"{folder}: another process trains here; wait for it, or choose another --output"
        ) from None
    except OSError as error:
        raise SurdError(
            f"{folder}: cannot write here: {error.strerror}; change its permissions, or choose "
            "another folder"
        ) from error
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def begin_folder(folder: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
    """Note the settings; delete what a killed run left half done, or anew all of an old run.

    Files that surd did not write stay.
    """
    _remove_half_done(folder)
    if not resume:
        _remove_run(folder)
    there = _settings_in(folder) or {}
    if settings["steps"] > there.get("steps", settings["steps"]):
        _remove_evaluations(folder)
    if not resume or not all(_agree(key, there.get(key), now) for key, now in settings.items()):
        text = json.dumps({"format": _FORMAT, **settings}, indent=2) + "\n"
        Storage(str(folder)).write_bytes(SETTINGS_FILE, text.encode())
    (folder / RUN).write_text(SAYING[RUN], encoding="ascii")


def _remove_half_done(folder: Path) -> None:
    for place in ("", f"{BEST}/", f"{FOLDER}/", f"{FOLDER}/*/", "pictures/*/"):
        for path in folder.glob(f"{place}.*.tmp"):
            if path.is_file() and is_temporary(path.name):
                path.unlink(missing_ok=True)
            elif not place and is_half_checkpoint(path):
                shutil.rmtree(path)


def _remove_evaluations(folder: Path) -> None:
    paths = sorted(path for pattern in _EVALUATED for path in folder.glob(pattern))
    for path in paths:
        path.unlink(missing_ok=True)
    if paths:
        log.warning(
            "%s: removed %s, which measured the weights that this training replaces",
            *(folder, ", ".join(path.name for path in paths)),
        )


def _remove_run(folder: Path) -> None:
    """All but the settings, which mark the folder as surd's should this be killed, and a card that
    somebody has edited."""
    kept = {folder / CARD} if is_edited(folder) else set()
    paths = [path for pattern in _OF_A_RUN for path in folder.glob(pattern) if path not in kept]
    for path in paths:
        path.unlink(missing_ok=True)
    for _, path in checkpoints(folder):
        remove_checkpoint(path)
    for place in {path.parent for path in paths} - {folder}:
        if not any(place.iterdir()):
            place.rmdir()
