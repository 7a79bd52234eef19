"""Reading the vectors that ``surd embed-llm`` wrote.

>>> vectors = surd.llm.embeddings.load("my-data", "meta-llama/Llama-2-13b-hf", 39)
>>> vectors[sample_id]            # float16 [h]
>>> vectors.take(sample_ids)      # float16 [n, h]
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock

from surd.errors import WorkspaceError, command
from surd.llm.layout import check_model, group, short_name, stored
from surd.paths import cache_folder
from surd.store.aligned import check_samples
from surd.store.storage import Storage
from surd.store.workspace import Workspace

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
    parts = [_read(workspace, name, part, ["tokens"]) for part in workspace.parts(name)]
    table = pa.concat_tables(parts)
    tokens = table["tokens"].to_pylist() if _per_token(workspace, name) else None
    rows = table.num_rows if tokens is None else sum(tokens)
    values = _mapped(workspace, name, rows, digest)
    number = int(name.rpartition("-")[2])
    return Embeddings(values, table["id"].to_pylist(), tokens, number, digest)


def sentences(location: str | Path, model: str, layer: int) -> dict[str, str]:
    """Sample id -> the text its vector belongs to, of those that `load` gives."""
    workspace = Workspace(location)
    name = group_of(workspace, model, layer)
    found: dict[str, str] = {}
    for part in workspace.parts(name):
        table = _read(workspace, name, part, ["simple_prompt"])
        found |= zip(table["id"].to_pylist(), table["simple_prompt"].to_pylist(), strict=True)
    return found


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
    return table.filter(pc.is_in(table["status"], pa.array(["ok", "cut"])))


def _per_token(workspace: Workspace, name: str) -> bool:
    batches = workspace.read_batches(name, workspace.parts(name)[0], ["embedding"], 1)
    return any(pa.types.is_list(batch.schema.field("embedding").type) for batch in batches)


def _digest(workspace: Workspace, name: str) -> str:
    """Of all parts. Raises WorkspaceError where they were not made alike."""
    infos = [workspace.part_info(name, part) for part in workspace.parts(name)]
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


def _mapped(workspace: Workspace, name: str, rows: int, digest: str) -> Vector:
    """All vectors as ``[rows, h]``, mapped from a file that is made when it is not there."""
    folder = _folder(workspace, name)
    path = folder / f"vectors-{digest}.npy"
    if not path.is_file():
        with _locked(folder):  # others may want them at the same moment
            _write_mapped(workspace, name, rows, path)
    mapped: Vector = np.load(path, mmap_mode="r")
    return mapped


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
    """Write the file, and delete those of other vectors, and what a killed process left of one."""
    if path.is_file():
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
        for part in workspace.parts(name):
            column = _read(workspace, name, part, ["embedding"])["embedding"].combine_chunks()
            if pa.types.is_list(column.type):
                column = column.flatten()
            values = column.flatten().to_numpy().reshape(-1, column.type.list_size)
            if array is None:
                shape = (rows, values.shape[1])
                array = np.lib.format.open_memmap(temporary, "w+", np.float16, shape)
            array[first : first + len(values)] = values
            first += len(values)
        if array is not None:
            array.flush()


def _folder(workspace: Workspace, name: str) -> Path:
    """Where the plain array lies: beside the parts; in the cache when those are remote."""
    if workspace.storage.is_local:
        return Path(workspace.storage.path(name))
    place = hashlib.blake2b(f"{workspace.location}/{name}".encode(), digest_size=8).hexdigest()
    folder = cache_folder() / "vectors" / place
    folder.mkdir(parents=True, exist_ok=True)
    return folder
