"""Reading the vectors that ``surd embed-llm`` wrote.

>>> vectors = surd.llm.embeddings.load("my-data", "meta-llama/Llama-2-13b-hf", 39)
>>> vectors[sample_id]            # float16 [h]
>>> vectors.take(sample_ids)      # float16 [n, h]
>>> load_texts("my-data", "meta-llama/Llama-2-13b-hf", 39)["a cat"]    # float16 [tokens, h]
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from surd.errors import WorkspaceError, command
from surd.llm.layout import check_model, group, short_name, stored
from surd.llm.share import VECTOR, has_others
from surd.paths import cache_folder
from surd.store.aligned import check_samples
from surd.store.storage import Storage
from surd.store.workspace import DamagedPartError, Workspace

Vector = npt.NDArray[np.float16]


class Embeddings(Mapping[str, Vector]):
    """Sample id -> float16 ``[h]``, or ``[tokens, h]`` where every token was kept.

    The vectors stay on disk, memory-mapped: processes that read them share one copy.
    """

    def __init__(
        self,
        values: Vector,
        ids: Sequence[str],
        tokens: Sequence[int] | None,
        layer: int,
        digest: str,
    ) -> None:
        self.layer = layer
        """Its number, from 0."""
        self.digest = digest
        """Equal where all vectors are."""
        self._values = values
        self._rows = {id_: row for row, id_ in enumerate(ids)}
        self._ends = None if tokens is None else np.cumsum([0, *tokens])
        self.width: int = values.shape[1]
        """h."""

    @property
    def per_token(self) -> bool:
        """Whether every token was kept."""
        return self._ends is not None

    def __getitem__(self, id_: str) -> Vector:
        """Raises KeyError for a sample without a vector."""
        row = self._rows[id_]
        at = row if self._ends is None else slice(self._ends[row], self._ends[row + 1])
        found: Vector = self._values[at]
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, ids: Sequence[str]) -> Vector:
        """``[n, h]`` in the order of `ids`. Raises KeyError; ValueError with vectors per token."""
        if self._ends is not None:
            raise ValueError("samples have one vector per token; read them one by one")
        return self._values[[self._rows[id_] for id_ in ids]]


@dataclass(frozen=True)
class TextVectors(Mapping[str, Vector]):
    """Text -> float16 ``[n, h]``: of every token, or one alone; mapped from disk."""

    layer: int
    """Its number, from 0."""
    digest: str
    """Equal where all vectors are."""
    about: Mapping[str, Any]
    """What ``surd embed-llm`` noted of the model and of how texts are put to it."""
    vectors: Vector
    """``[rows, h]``."""
    samples: Mapping[str, str]
    """Id of a sample -> the simple prompt that its vector belongs to."""
    places: Mapping[str, tuple[int, int]]
    """Text -> its first row and how many there are; none of a text that could not be embedded."""

    @property
    def width(self) -> int:
        """h."""
        return int(self.vectors.shape[1])

    @property
    def per_token(self) -> bool:
        """Whether every token was kept."""
        return self.about.get("pool") == "none"

    def __getitem__(self, text: str) -> Vector:
        """Raises KeyError for a text without a vector."""
        first, count = self.places[text]
        if not count:
            raise KeyError(text)
        found: Vector = self.vectors[first : first + count]
        return found

    def __contains__(self, text: object) -> bool:
        """Whether it has a vector."""
        return self.places.get(str(text), (0, 0))[1] > 0

    def __iter__(self) -> Iterator[str]:
        return (text for text, (_, count) in self.places.items() if count)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def load(location: str | Path, model: str, layer: int) -> Embeddings:
    """The vectors of one model and layer in a workspace, by sample id.

    `model` is the name given to ``surd embed-llm``, or its folder below ``llm``; `layer` counts
    from 0, the embeddings' output, and -1 is the deepest one there. The first call copies the
    vectors once, from Parquet to a plain array beside it, which later calls map. Raises
    WorkspaceError naming what there is, also where parts were made with different settings.
    """
    workspace = Workspace(location)
    name = group_of(workspace, model, layer)
    digest = _digest(workspace, name)
    rows = _rows(workspace, name)
    tokens = rows.counts if _per_token(workspace, name) else None
    values = _mapped(workspace, name, rows, digest)
    return Embeddings(values, rows.ids, tokens, _number(name), digest)


def load_texts(location: str | Path, model: str, layer: int) -> TextVectors:
    """The vectors of one model and layer by text: of simple prompts, and of all others that were
    embedded. Otherwise as :func:`load`."""
    workspace = Workspace(location)
    name = group_of(workspace, model, layer)
    digest = _digest(workspace, name)
    rows = _rows(workspace, name)
    values = _mapped(workspace, name, rows, digest)
    firsts = np.cumsum([0, *rows.counts, *rows.other_counts]).tolist()
    pairs = list(zip(firsts[:-1], [*rows.counts, *rows.other_counts], strict=True))
    texts = [*rows.texts, *rows.other_texts]
    places = dict.fromkeys(rows.without, (0, 0)) | dict(zip(texts, pairs, strict=True))
    parts = (workspace.part_info(name, part) for part in workspace.parts(name))
    about: Mapping[str, Any] = next(
        (info.extra.get("llm", {}) for info in parts if info is not None), {}
    )
    samples = dict(zip(rows.ids, rows.texts, strict=True))
    return TextVectors(_number(name), digest, about, values, samples, places)


def _number(name: str) -> int:
    """Of a group's layer."""
    return int(name.rpartition("-")[2])


@dataclass(frozen=True)
class _Rows:
    """What lies in all parts, but for the vectors: those of samples first, then the others'."""

    ids: list[str]
    """Of samples that have a vector."""
    texts: list[str]
    counts: list[int]
    """How many vectors each text has."""
    other_texts: list[str]
    other_counts: list[int]
    without: list[str]
    """Texts that could not be embedded."""


def _rows(workspace: Workspace, name: str) -> _Rows:
    """Raises DamagedPartError where a part's rows are not the samples'."""
    per_token = _per_token(workspace, name)
    found = _Rows([], [], [], [], [], [])
    for part in workspace.parts(name):
        more = ["others"] if has_others(workspace, name, part) else []
        table = workspace.read(name, part, ["id", "simple_prompt", "tokens", "status", *more])
        check_samples(workspace, name, part, table["id"])
        columns = (table[one].to_pylist() for one in ("id", "simple_prompt", "tokens", "status"))
        for id_, text, tokens, status in zip(*columns, strict=True):
            if status in VECTOR:
                found.ids.append(id_)
                found.texts.append(text)
                found.counts.append(_count(workspace, name, part, tokens) if per_token else 1)
            elif text and status != "dropped":
                found.without.append(text)
        for one in (
            one for some in (table["others"].to_pylist() if more else ()) for one in some or ()
        ):
            if one["status"] in VECTOR:
                found.other_texts.append(one["text"])
                count = _count(workspace, name, part, one.get("tokens")) if per_token else 1
                found.other_counts.append(count)
            else:
                found.without.append(one["text"])
    return found


def _count(workspace: Workspace, name: str, part: int, tokens: int | None) -> int:
    if tokens is None or tokens < 0:
        raise DamagedPartError(workspace.location, name, part, "a text without its tokens")
    return tokens


def group_of(workspace: Workspace, model: str, layer: int) -> str:
    """The column group of a model, by either name, and a layer. Raises WorkspaceError."""
    there = sorted(stored(workspace))
    for name in (model, short_name(model)):
        layers = [number for one, number in there if one == name]
        number = max(layers, default=layer) if layer == -1 else layer
        if number in layers:
            found = group(name, number)
            if name != model:  # given by the name of its folder, not below llm
                check_model(workspace, found, model)
            return found
    have = ", ".join(f"{name} layer {number}" for name, number in there) or "none"
    which = [] if layer == -1 else ["--layer", layer]
    wanted = f", layer {layer}" if which else ""
    if layer < -1:
        raise WorkspaceError(
            f"{workspace.location}: layer {layer} of {model}: count from 0, or use -1 for the "
            f"deepest one there; available: {have}"
        )
    raise WorkspaceError(
        f"{workspace.location}: no vectors of {model}{wanted}; available: {have}; run: "
        + command("embed-llm", workspace.location, "--model", model, *which)
    )


def _read(workspace: Workspace, name: str, part: int, columns: Sequence[str]) -> pa.Table:
    """The rows that have a vector. Raises DamagedPartError where they are not the samples'."""
    table = workspace.read(name, part, ["id", *columns, "status"])
    check_samples(workspace, name, part, table["id"])
    return table.filter(pc.is_in(table["status"], pa.array(VECTOR)))


def _per_token(workspace: Workspace, name: str) -> bool:
    batches = workspace.read_batches(name, workspace.parts(name)[0], ["embedding"], 1)
    return any(pa.types.is_list(batch.schema.field("embedding").type) for batch in batches)


def _digest(workspace: Workspace, name: str) -> str:
    """Of all parts. Raises WorkspaceError where they were not made alike."""
    look = workspace.part_infos(name)
    infos = [look(name, part) for part in workspace.parts(name)]
    known = [info for info in infos if info is not None]
    if len({info.settings for info in known}) > 1:
        about = known[0].extra.get("llm", {})
        which = ("--model", about.get("model"), "--layer", about.get("layer"))
        raise WorkspaceError(
            f"{workspace.location}/{name}: its parts were made with different settings; run: "
            + command("embed-llm", workspace.location, *which)
        )
    digests = [info.digest for info in known]
    return hashlib.blake2b(" ".join(digests).encode(), digest_size=8).hexdigest()


def _mapped(workspace: Workspace, name: str, found: _Rows, digest: str) -> Vector:
    """All vectors as ``[rows, h]``, mapped from a file that is made if it is not there, or cut."""
    folder = _folder(workspace, name)
    path = folder / f"vectors-{digest}.npy"
    rows = sum(found.counts) + sum(found.other_counts)
    if not _is_whole(path, rows):
        with _locked(folder):  # others may want them at the same moment
            _write_mapped(workspace, name, rows, path)
    mapped: Vector = np.load(path, mmap_mode="r")
    return mapped


def _is_whole(path: Path, rows: int) -> bool:
    """Whether an array of so many rows is there, and the file as long as that needs."""
    try:
        found = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError):
        return False
    return bool(found.ndim == 2 and len(found) == rows and found.dtype == np.float16)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire()
    except OSError as error:
        raise WorkspaceError(
            f"{folder}: cannot write here: {error.strerror}; change its permissions"
        ) from error
    try:
        yield
    finally:
        lock.release()


def _write_mapped(workspace: Workspace, name: str, rows: int, path: Path) -> None:
    """Write the file, unless it is whole, and delete those of other vectors, and what a killed
    process left of one."""
    if _is_whole(path, rows):
        return
    for old in path.parent.glob(".vectors-*.npy.*.tmp"):
        old.unlink()
    _copy(workspace, name, rows, path)
    for old in path.parent.glob(f"vectors-{'[0-9a-f]' * 16}.npy"):
        if old != path:
            old.unlink()


def _copy(workspace: Workspace, name: str, rows: int, path: Path) -> None:
    with Storage(str(path.parent)).writing(path.name) as temporary:
        array: np.memmap[Any, np.dtype[np.float16]] | None = None
        first = 0
        for values in _vectors(workspace, name):
            if array is None:
                shape = (rows, values.shape[1])
                array = np.lib.format.open_memmap(temporary, "w+", np.float16, shape)
            if values.shape[1] != array.shape[1] or first + len(values) > rows:
                break
            array[first : first + len(values)] = values
            first += len(values)
        if first != rows:
            raise WorkspaceError(
                f"{workspace.location}/{name}: has not one vector for each text; delete this "
                "folder and run surd embed-llm again"
            )
        if array is not None:
            array.flush()


def _vectors(workspace: Workspace, name: str) -> Iterator[Vector]:
    """``[n, h]`` part by part, in the order of `_Rows`."""
    for part in workspace.parts(name):
        yield _flat(_read(workspace, name, part, ["embedding"])["embedding"])
    for part in workspace.parts(name):
        if has_others(workspace, name, part):
            yield _flat(workspace.read(name, part, ["other_embeddings"])["other_embeddings"])


def _flat(column: pa.ChunkedArray) -> Vector:
    whole = column.combine_chunks()
    if pa.types.is_list(whole.type):
        whole = whole.flatten()
    found: Vector = whole.flatten().to_numpy().reshape(-1, whole.type.list_size)
    return found


def _folder(workspace: Workspace, name: str) -> Path:
    """Where the plain array lies: beside the parts; in the cache when those are remote."""
    if workspace.storage.is_local:
        return Path(workspace.storage.path(name))
    place = hashlib.blake2b(f"{workspace.location}/{name}".encode(), digest_size=8).hexdigest()
    folder = cache_folder() / "vectors" / place
    folder.mkdir(parents=True, exist_ok=True)
    return folder
