"""Choosing samples to show: the same ones each time, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Hashable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Place = tuple[int, int]
"""Part and row."""
_BLOCK_ROWS = 64
_BLOCKS = 160
_LATER = np.uint64(1 << 63)


class Choice:
    """Of all rows offered under a name, those whose ids come first by their hash.

    Ids are hashes already, so this is a uniform sample that stays as the dataset grows. In a
    large dataset rows of some blocks, chosen by chance, go before all others: pictures lie in
    row groups, and what is shown should not need every one of them read.
    """

    def __init__(self, rows: int) -> None:
        self._share = min(1.0, _BLOCKS * _BLOCK_ROWS / max(1, rows))
        self._kept: dict[Hashable, list[tuple[int, Place]]] = {}

    def order(self, ids: pa.ChunkedArray, part: int) -> npt.NDArray[np.uint64]:
        """Whose turn it is, ``[n]``: the lowest first."""
        heads = np.array(pc.utf8_slice_codeunits(ids, 0, 8).to_pylist(), "S8")
        order: npt.NDArray[np.uint64] = heads.view(">u8").astype(np.uint64) >> np.uint64(1)
        if self._share < 1:
            blocks = np.arange(len(order)) // _BLOCK_ROWS
            chance = np.random.default_rng(part).random(len(order) // _BLOCK_ROWS + 1)
            order[chance[blocks] >= self._share] |= _LATER
        return order

    def offer(
        self,
        name: Hashable,
        limit: int,
        part: int,
        order: npt.NDArray[np.uint64],
        among: npt.NDArray[np.bool_] | npt.NDArray[np.intp],
    ) -> None:
        """Keep under ``name`` the first ``limit`` of the rows offered so far."""
        rows = np.flatnonzero(among) if among.dtype == bool else among
        if len(rows) > limit:
            rows = rows[np.argpartition(order[rows], limit)[:limit]]
        new = [(int(order[row]), (part, int(row))) for row in rows]
        self._kept[name] = sorted([*self._kept.get(name, []), *new])[:limit]

    def places(self, name: Hashable) -> list[Place]:
        """The rows kept under a name, first first."""
        return [place for _, place in self._kept.get(name, [])]

    def names(self) -> list[Hashable]:
        """Every name under which rows were offered."""
        return list(self._kept)
