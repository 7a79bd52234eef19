"""Nearest images by CLIP: to a text, or to another image."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from surd.errors import SurdError, command
from surd.stages.score import ScoreParams
from surd.store.prefetch import READERS, at_once
from surd.store.workspace import Workspace
from surd.view.index import Bools, Index

Vector = npt.NDArray[np.float32]


class TextEncoder:
    """The text tower of the CLIP that scored a workspace, loaded when it is first needed."""

    def __init__(self, params: ScoreParams) -> None:
        self.params = params
        self.problem = ""
        """Why it cannot be loaded, once that was tried."""
        self._clip: Any = None
        self._lock = threading.Lock()

    def encode(self, text: str) -> Vector:
        """``[d]`` of unit length. Raises SurdError when the model cannot be loaded."""
        import torch

        from surd.models.clip import load_clip
        from surd.models.devices import device_named, dtype_of

        with self._lock:
            if self._clip is None:
                device = device_named(self.params.device)
                dtype = dtype_of(self.params.precision, device)
                try:
                    self._clip = load_clip(self.params.clip, device=device, dtype=dtype)
                except SurdError as error:
                    self.problem = str(error)
                    raise
            with torch.inference_mode():
                vector: Vector = self._clip.embed_texts([text])[0].cpu().numpy()
        return vector


def encoder_of(workspace: Workspace) -> TextEncoder:
    """Of the model that the workspace's images were scored with, not of what a recipe now says."""
    manifest = workspace.read_manifest()
    run = manifest.stages.get("score")
    settings = run.settings if run else manifest.recipe.get("score", {})
    known = {name: settings[name] for name in ("clip", "precision", "device") if name in settings}
    return TextEncoder(ScoreParams(**known))


def nearest(
    workspace: Workspace,
    index: Index,
    query: Vector,
    among: Bools,
    count: int,
    *,
    before_part: Callable[[], None] = lambda: None,
) -> tuple[npt.NDArray[np.int64], Vector]:
    """Positions and cosines of the images nearest to ``query`` ``[d]``, the nearest first.

    Streams the embeddings, and holds the best `count` only. ``among`` ``[n]`` says who may be
    found; ``before_part`` may raise, to end it early. Raises SurdError when the embeddings are of
    another length.
    """
    have = set(workspace.parts("clip"))
    bounds = list(pairwise(index.starts.tolist()))
    wanted = [
        at
        for at, (part, (start, end)) in enumerate(zip(index.parts, bounds, strict=True))
        if part in have and among[start:end].any()
    ]

    def of_part(at: int) -> tuple[npt.NDArray[np.int64], Vector]:
        best, scores = np.zeros(0, np.int64), np.zeros(0, np.float32)
        block = np.empty((0, len(query)), np.float32)
        start, end = bounds[at]
        before_part()
        for table in workspace.skim("clip", index.parts[at], ["image_embedding"]):
            rows, found = vectors(table["image_embedding"])
            positions = start + rows
            start += table.num_rows
            usable = (positions < end) & among[np.minimum(positions, end - 1)]
            if not usable.any():
                continue
            if found.shape[1] != len(query):
                raise SurdError(
                    f"the images were scored by a CLIP model with {found.shape[1]} "
                    f"dimensions, but this text has {len(query)}; run: "
                    f"{command('score', workspace.location)}"
                )
            if not usable.all():
                positions, found = positions[usable], found[usable]
            if len(block) < len(found):
                block = np.empty(found.shape, np.float32)  # new memory takes longest
            cosines = _cosines(found, query, block[: len(found)])
            if len(scores) == count:
                higher = cosines > scores[-1]
                positions, cosines = positions[higher], cosines[higher]
            best, scores = np.concatenate([best, positions]), np.concatenate([scores, cosines])
            best, scores = _first(best, scores, count)
        return best, scores

    best, scores = np.zeros(0, np.int64), np.zeros(0, np.float32)
    for more, of_more in at_once(wanted, of_part, READERS):
        best, scores = np.concatenate([best, more]), np.concatenate([scores, of_more])
        best, scores = _first(best, scores, count)
    return best, scores


_SHIFT, _KEPT, _SCALE = 13, np.uint32(0x8FFF_E000).astype(np.int32), np.float32(2.0**112)
_MOST = 1.1
"""Of a cosine, rounding aside."""


def _cosines(found: npt.NDArray[np.float16], query: Vector, block: Vector) -> Vector:
    """``found @ query`` for unit vectors ``[m, d]``; NaN where one has numbers that are none.

    The bits of each float16 go to where float32 has sign, exponent and fraction, into ``block``
    ``[m, d]``. That makes numbers 2^-112 times as large, which ``query`` makes up for, and takes
    half the time of numpy's conversion, on which a search spent a third of its own.
    """
    bits = block.view(np.int32)
    np.left_shift(found.view(np.int16), _SHIFT, out=bits, dtype=np.int32)
    np.bitwise_and(bits, _KEPT, out=bits)  # the sign had filled the bits below its own
    cosines: Vector = np.einsum("nd,d->n", block, query * _SCALE)  # BLAS's threads wait busily
    cosines[np.abs(cosines) > _MOST] = np.nan
    return cosines


def _first(
    positions: npt.NDArray[np.int64], scores: Vector, count: int
) -> tuple[npt.NDArray[np.int64], Vector]:
    """The `count` of the highest scores, the highest first."""
    order = np.lexsort((positions, -scores))[:count]
    return positions[order], scores[order]


def vectors(column: pa.ChunkedArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float16]]:
    """Rows that have an embedding, and their embeddings ``[m, d]``."""
    lists = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()  # which copies
    rows = np.flatnonzero(lists.is_valid().to_numpy(zero_copy_only=False))
    values = lists.flatten().to_numpy(zero_copy_only=False)
    return rows, values.reshape(len(rows), -1) if len(rows) else values.reshape(0, 1)
