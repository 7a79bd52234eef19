"""A map of the images: what CLIP sees alike lies near each other. Computed once, kept in a file."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from surd.errors import SurdError, WorkspaceError, command
from surd.store.workspace import DamagedPartError, Workspace
from surd.view.index import Bools, Index
from surd.view.nearest import vectors

FILE = "view/map.parquet"
"""In the workspace: a row a sample with its place, null where it has no embedding."""
SCALE = 9_999
"""Places are whole numbers from 0 to this."""

Places = npt.NDArray[np.float32]
"""``[n, 2]``: x and y, NaN where there is no embedding."""

_SAMPLE, _SAMPLE_PARTS = 4_096, 32
"""Embeddings that the axes are found from, and the parts that these are taken from, at most."""
_BATCH_ROWS = 8_192
_OF = b"surd.map"
_EDGE = 0.05
"""Of each side, left for the hundredth of the images that lie furthest out."""


def load(
    workspace: Workspace, index: Index, *, before_part: Callable[[], None] = lambda: None
) -> Places:
    """The place of every sample: the first two principal components of the embeddings.

    The file is used while the embeddings are the same; where none can be written, as in somebody
    else's workspace, the map is computed each time. ``before_part`` may raise, to end it early.
    Raises WorkspaceError, and SurdError where embeddings are of different lengths.
    """
    of = _digest(workspace, index)
    places = _read(workspace, of, len(index))
    if places is None:
        places = _compute(workspace, index, before_part)
        with contextlib.suppress(WorkspaceError):
            workspace.storage.write_bytes(FILE, _file(places, of))
    return places


def inside(polygon: npt.NDArray[np.float32], places: Places) -> Bools:
    """Which places lie within a polygon ``[corners, 2]``, by the even-odd rule.

    A corner on the map's border counts as beyond it: outliers lie on that.
    """
    polygon = np.where(polygon <= 0, -1, np.where(polygon >= SCALE, SCALE + 1, polygon))
    found = np.zeros(len(places), np.bool_)
    with np.errstate(invalid="ignore"):
        near = np.all((places >= polygon.min(0)) & (places <= polygon.max(0)), axis=1)
        x, y = places[near].T
        within = np.zeros(len(x), np.bool_)
        for (x1, y1), (x2, y2) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if y1 != y2:
                crosses = (y1 > y) != (y2 > y)
                within ^= crosses & (x < (x2 - x1) * (y - y1) / (y2 - y1) + x1)
    found[near] = within
    return found


def axes_of(sample: npt.NDArray[np.float32]) -> tuple[Places, npt.NDArray[np.float32]]:
    """Of embeddings ``[m, d]`` their mean ``[d]``, and the two axes ``[d, 2]`` along which they
    differ most."""
    mean = sample.mean(0)
    centred = (sample - mean).astype(np.float64)
    _, found = np.linalg.eigh(centred.T @ centred / len(centred))
    axes = np.zeros((len(mean), 2), np.float32)
    two = found[:, ::-1][:, :2]  # the eigenvalues ascend
    axes[:, : two.shape[1]] = two
    largest = axes[np.abs(axes).argmax(0), [0, 1]]
    return mean, axes * np.where(largest < 0, -1, 1).astype(np.float32)  # the same each time


def _compute(workspace: Workspace, index: Index, before_part: Callable[[], None]) -> Places:
    places = np.full((len(index), 2), np.nan, np.float32)
    have = set(workspace.parts("clip"))
    parts = [part for part in index.parts if part in have]
    sampled = parts[:: max(1, -(-len(parts) // _SAMPLE_PARTS))]
    each = -(-_SAMPLE // max(1, len(sampled)))
    pieces: list[npt.NDArray[np.float32]] = []
    for part in sampled:
        before_part()
        first = next(workspace.read_batches("clip", part, ["image_embedding"], each), None)
        if first is not None:
            found = _finite(workspace, first, pieces[0].shape[1] if pieces else None)[1]
            pieces += [found] if len(found) else []
    if not pieces:
        return places
    sample = np.concatenate(pieces)
    mean, axes = axes_of(sample)
    low, high = np.percentile((sample - mean) @ axes, [1, 99], axis=0)
    width = np.where(high > low, high - low, 1)
    for at, part in enumerate(index.parts):
        start, end = int(index.starts[at]), int(index.starts[at + 1])
        if part not in have:
            continue
        before_part()
        for table in workspace.read_batches("clip", part, ["image_embedding"], _BATCH_ROWS):
            rows, found = _finite(workspace, table, len(mean))
            usable = start + rows < end
            if usable.any():
                flat = (found[usable] - mean) @ axes
                unit = _EDGE + (1 - 2 * _EDGE) * (flat - low) / width
                places[start + rows[usable]] = np.round(np.clip(unit, 0, 1) * SCALE)
            start += table.num_rows
    return places


def _finite(
    workspace: Workspace, table: pa.Table, width: int | None
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Rows that have an embedding without NaN and infinities, and these, ``[m, width]``."""
    rows, found = vectors(table["image_embedding"])
    if width is not None and len(rows) and found.shape[1] != width:
        raise SurdError(
            f"some images were scored by a CLIP model with {found.shape[1]} dimensions, others by "
            f"one with {width}; run: {command('score', workspace.location)}"
        )
    there = np.isfinite(found).all(1)
    return rows[there], found[there].astype(np.float32)


def _digest(workspace: Workspace, index: Index) -> str:
    """Of what the embeddings were computed from; edited prompts do not change them."""
    told, look = [], workspace.part_infos("clip")
    for part in index.parts:
        try:
            info = look("clip", part)
        except DamagedPartError:
            info = None
        told.append((part, info and (info.rows, info.settings, info.inputs.get("images"))))
    return hashlib.blake2b(json.dumps(told).encode(), digest_size=16).hexdigest()


def _read(workspace: Workspace, of: str, count: int) -> Places | None:
    """None where there is no such file, or it is of other embeddings, or broken."""
    try:
        table = pq.read_table(io.BytesIO(workspace.storage.read_bytes(FILE)))
        if table.schema.metadata.get(_OF) != of.encode() or table.num_rows != count:
            return None
        columns = [table[name].cast(pa.float32()).to_numpy() for name in ("x", "y")]
    except (OSError, WorkspaceError, pa.ArrowException, KeyError, AttributeError):
        return None
    return np.stack(columns, axis=1)


def _file(places: Places, of: str) -> bytes:
    columns = {
        name: pa.array(column, pa.float32(), from_pandas=True).cast(pa.uint16())
        for name, column in zip(("x", "y"), places.T, strict=True)
    }
    file = io.BytesIO()
    pq.write_table(pa.table(columns, metadata={_OF: of.encode()}), file, compression="zstd")
    return file.getvalue()
