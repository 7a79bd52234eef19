"""What a folder would send to the hub: a published dataset's files, or a trained adapter's."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from surd.dataset.atomic_folder import CARD, CROISSANT, DESCRIPTION, FOLDER
from surd.dataset.hub.front_matter import check_front_matter
from surd.dataset.published import open_published
from surd.errors import SurdError, command
from surd.untrusted import parse_json

Kind = Literal["dataset", "model"]

ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""As ``surd.adapter.files`` has them, which would load torch to be asked."""
_ADAPTER_FORMAT = "surd-adapter-1"
_ADAPTER_MAY_HAVE = ("loss.svg", "validation.png", "evaluation.md", "evaluation.json")
_SHARD = re.compile(r"(train|validation|test)-\d{5}-of-\d{5}\.parquet")


@dataclass(frozen=True)
class File:
    """One file to send."""

    name: str
    size: int
    content: Path | bytes
    """Texts are read once, so that what was checked is what is sent."""
    sha256: str | None = None
    """Where it is known already."""


@dataclass(frozen=True)
class Contents:
    """What a folder would send, and what stays."""

    location: str
    kind: Kind
    files: tuple[File, ...]
    stays: tuple[str, ...]
    """Names in the folder that are not sent."""
    notes: tuple[str, ...] = ()
    """What the sender may want to know before strangers read it."""

    def was_ours(self, name: str) -> bool:
        """Whether a file on the hub came from an earlier state of this dataset."""
        return self.kind == "dataset" and _SHARD.fullmatch(name) is not None


def contents_of(location: str) -> Contents:
    """What `location` is and what of it is sent; nothing is followed out of it.

    Raises SurdError when it is neither a dataset nor an adapter, when a file is missing, a link or
    another than its description says, or when the card's front matter is broken.
    """
    folder = Path(location).expanduser()
    try:
        if not folder.is_dir():
            raise SurdError(
                f"{location}: no such folder on this machine; name a workspace or the folder "
                "of a training run"
            )
        places = [p for p in (folder, folder / FOLDER) if _there(p / DESCRIPTION)]
        is_adapter = _there(folder / ADAPTER_CONFIG)
        if is_adapter and places:
            raise SurdError(
                f"{location}: holds both a dataset and an adapter; to push the dataset, name "
                f"{places[0]}"
                if places[0] != folder
                else f"{location}: holds both a dataset and an adapter; move one of them away"
            )
        if is_adapter:
            return _adapter(folder)
        if places:
            return _dataset(places[0], is_workspace=places[0] != folder)
    except OSError as error:
        where = error.filename or location
        raise SurdError(
            f"{where}: cannot be read: {error.strerror}; change its permissions"
        ) from error
    raise SurdError(
        f"{location}: neither a published dataset nor a trained adapter; first run: "
        f"{command('publish', location)}, or name the folder that surd train-adapter wrote"
    )


def _there(path: Path) -> bool:
    return path.is_symlink() or path.exists()


def _dataset(folder: Path, *, is_workspace: bool) -> Contents:
    if is_workspace and folder.is_symlink():
        raise SurdError(_is_link(folder))
    _size(folder / DESCRIPTION)
    shards = [_shard(folder, said) for said in open_published(str(folder)).files]
    if not shards:
        raise SurdError(f"{folder}: has no Parquet files; run surd publish again")
    texts = [_text(folder, name, "run surd publish again") for name in (CARD, CROISSANT)]
    check_front_matter(
        folder / CARD, texts[0].content, "it, or delete it and run surd publish again"
    )
    _json(folder / CROISSANT, texts[1], "delete it and run surd publish again")
    description = _text(folder, DESCRIPTION, "run surd publish again")
    files = (*shards, *texts, description)
    return Contents(str(folder), "dataset", files, _others(folder, files))


def _shard(folder: Path, said: Mapping[str, Any]) -> File:
    name, size, digest = said["name"], said["bytes"], said["sha256"]
    if not _SHARD.fullmatch(name):
        raise SurdError(
            f"{folder / DESCRIPTION}: {name} has no name that surd writes; delete it and run surd "
            "publish again"
        )
    there = _size(folder / name, "run surd publish again")
    if there != size:
        raise SurdError(
            f"{folder / name}: has {there:,} bytes but had {size:,} when published; delete it "
            "and run surd publish again"
        )
    return File(name, there, folder / name, digest)


def _adapter(folder: Path) -> Contents:
    mend = "finish training with: surd train-adapter DIR"
    config = _text(folder, ADAPTER_CONFIG, mend)
    said = _json(folder / ADAPTER_CONFIG, config, mend)
    if not isinstance(said, Mapping) or said.get("format") != _ADAPTER_FORMAT:
        raise SurdError(f"{folder / ADAPTER_CONFIG}: not an adapter configuration; {mend}")
    size = _size(folder / ADAPTER_WEIGHTS, mend)
    weights = File(ADAPTER_WEIGHTS, size, folder / ADAPTER_WEIGHTS)
    card = _text(
        folder, CARD, "this is the adapter's card; write one that begins with front matter"
    )
    check_front_matter(folder / CARD, card.content, "its first lines")
    more = [_text(folder, name, "") for name in _ADAPTER_MAY_HAVE if _there(folder / name)]
    files = (weights, config, card, *more)
    notes = [
        note
        for file in (config, *more)
        if file.name.endswith(".json")
        for note in _local_paths(folder / file.name, file)
    ]
    return Contents(str(folder), "model", files, _others(folder, files), tuple(notes))


def _local_paths(path: Path, file: File) -> Iterator[str]:
    said = _json(path, file, "delete it, or evaluate again with: surd evaluate RUN")
    for text in dict.fromkeys(_strings(said)):
        if text.startswith(("/", "~", "./", "../")):
            yield (
                f"{file.name} names a path on this machine, {text!r}: readers will see the "
                "name but cannot open the path"
            )


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for one in value.values():
            yield from _strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from _strings(one)


def _text(folder: Path, name: str, mend: str) -> File:
    _size(folder / name, mend)
    content = (folder / name).read_bytes()
    return File(name, len(content), content)


def _json(path: Path, file: File, mend: str) -> Any:
    assert isinstance(file.content, bytes)
    try:
        return parse_json(file.content)
    except ValueError as error:
        raise SurdError(f"{path}: not JSON ({error}); {mend}") from error


def _size(path: Path, mend: str = "") -> int:
    """Bytes of a regular file that lies here itself; SurdError for anything else."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        raise SurdError(f"{path}: missing; {mend}") from None
    if stat.S_ISLNK(found.st_mode):
        raise SurdError(_is_link(path))
    if not stat.S_ISREG(found.st_mode):
        raise SurdError(
            f"{path}: not a regular file; move it away" + (f" and {mend}" if mend else "")
        )
    return found.st_size


def _is_link(path: Path) -> str:
    return (
        f"{path}: a symbolic link, which surd does not follow; put the file it points to in its "
        "place"
    )


def _others(folder: Path, files: tuple[File, ...]) -> tuple[str, ...]:
    sent = {file.name for file in files}
    names = (path.name + ("/" if path.is_dir() else "") for path in folder.iterdir())
    return tuple(sorted(name for name in names if name not in sent and not name.startswith(".")))
