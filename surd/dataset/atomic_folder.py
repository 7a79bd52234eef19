"""How a dataset's folder comes to be there all at once.

Everything is written into a folder beside it. On a local disk two renames put it in place; killed
between them, the next run finishes. Object stores cannot rename folders: there
``surd-dataset.json`` says ``"complete": false`` until the last file is moved.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from surd.dataset.description import described
from surd.errors import WorkspaceError
from surd.store.marks import DATASET
from surd.store.storage import Storage, fsync

FOLDER = "dataset"
DESCRIPTION = DATASET
CARD = "README.md"
CROISSANT = "croissant.json"
_OLD = f"{FOLDER}.tmp-replaced"
_NEW = f"{FOLDER}.tmp-"
_TEXTS = (DESCRIPTION, CARD, CROISSANT)


def new_folder(fingerprint: str) -> str:
    """Where the dataset of that fingerprint is written before it is put in place."""
    return f"{_NEW}{fingerprint[:16]}"


def read_description(storage: Storage, folder: str = FOLDER) -> dict[str, Any] | None:
    """What a dataset says of itself; None when there is none or it is not all there."""
    try:
        said = described(storage.read_bytes(f"{folder}/{DESCRIPTION}"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    return said if said.get("complete") is True else None


def is_whole(storage: Storage, said: Mapping[str, Any]) -> bool:
    """Whether every Parquet file the description names is in place, at its size."""
    names = set(storage.names(FOLDER))
    return all(
        file["name"] in names
        and storage.fs.size(storage.path(f"{FOLDER}/{file['name']}")) == file["bytes"]
        for file in said["files"]
    )


def tidy(storage: Storage, wanted: str) -> None:
    """Finish or undo what a killed run left; a complete folder named ``wanted`` stays.

    Raises WorkspaceError when ``dataset`` holds what surd did not make.
    """
    left = [name for name in storage.names("") if re.fullmatch(f"{_NEW}[0-9a-f]{{16}}", name)]
    if storage.is_local:
        _finish_renaming(storage, left)
    names = storage.names(FOLDER)
    if names and DESCRIPTION not in names:
        raise WorkspaceError(
            f"{storage.location}/{FOLDER}: holds files that surd did not write; move them "
            "away and rerun the same command"
        )
    for name in left:
        if name != wanted or read_description(storage, name) is None:
            remove(storage, name)


def _finish_renaming(storage: Storage, left: list[str]) -> None:
    root = Path(storage.root)
    final, old = root / FOLDER, root / _OLD
    with _telling(final):
        if not final.exists():
            complete = [name for name in left if read_description(storage, name) is not None]
            if complete:
                (root / complete[0]).rename(final)
            elif old.exists():
                old.rename(final)
        if old.exists():
            _retire(old, final)


def put_in_place(storage: Storage, folder: str, said: Mapping[str, Any]) -> None:
    """Make ``folder`` the dataset, in place of the one there may be."""
    moves = {file["written_as"]: file["name"] for file in said["files"]}
    if not storage.is_local:
        _move_files(storage, folder, moves, said)
        return
    root = Path(storage.root)
    new, final, old = root / folder, root / FOLDER, root / _OLD
    with _telling(final):
        for before, after in moves.items():
            with contextlib.suppress(FileNotFoundError):  # renamed by a run that was killed
                (new / before).rename(new / after)
        fsync(new)
        if final.exists():
            final.rename(old)
        new.rename(final)
        fsync(root)
        if old.exists():
            _retire(old, final)


@contextlib.contextmanager
def _telling(final: Path) -> Iterator[None]:
    """Turn what the disk refuses into one line."""
    try:
        yield
    except OSError as error:
        raise WorkspaceError(
            f"{final}: cannot move the dataset into place: {error.strerror or error}; fix "
            "that and rerun the same command"
        ) from error


def _retire(old: Path, final: Path) -> None:
    """Delete a dataset that was replaced; what surd did not make moves to the new one."""
    ours = _names_in(Storage(str(old)), "")
    for path in old.iterdir():
        if path.name not in ours and not (final / path.name).exists():
            path.rename(final / path.name)
    shutil.rmtree(old)


def _names_in(storage: Storage, folder: str) -> set[str]:
    """The files that a dataset's description calls its own, whole or not."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        said = described(storage.read_bytes(f"{folder}/{DESCRIPTION}".lstrip("/")))
        names = (file[key] for file in said["files"] for key in ("name", "written_as"))
        return {*_TEXTS, *names}
    return set(_TEXTS)


def _move_files(
    storage: Storage, folder: str, moves: Mapping[str, str], said: Mapping[str, Any]
) -> None:
    replaced = _names_in(storage, FOLDER)
    content = json.dumps(dict(said) | {"complete": False}).encode()
    storage.write_bytes(f"{FOLDER}/{DESCRIPTION}", content)
    for name in storage.names(FOLDER):
        if name in replaced - {*_TEXTS, *moves.values()}:
            storage.delete(f"{FOLDER}/{name}")
    waiting = storage.names(folder)
    for before, after in [*moves.items(), (CROISSANT, CROISSANT), (CARD, CARD)]:
        if before in waiting:
            storage.rename(f"{folder}/{before}", f"{FOLDER}/{after}")
    storage.rename(f"{folder}/{DESCRIPTION}", f"{FOLDER}/{DESCRIPTION}")
    remove(storage, folder)


def remove(storage: Storage, folder: str) -> None:
    """Delete a folder and all in it, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        storage.fs.rm(storage.path(folder), recursive=True)
