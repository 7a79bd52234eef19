"""What an evaluation found, picture by picture: the rows of ``evaluation.parquet``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LOWER_IS_BETTER = b"lower_is_better"
"""Key of a column's metadata, where that is so."""


@dataclass
class Outcomes:
    """Columns of a table."""

    columns: dict[str, list[Any]] = field(default_factory=dict)
    _descending: set[str] = field(default_factory=set)

    def add(self, **values: Any) -> None:
        """One row: what was asked about a picture of a side, and what was answered."""
        for name, value in values.items():
            self.columns.setdefault(name, []).append(value)

    def score(
        self,
        column: str,
        name: str,
        texts: Sequence[str],
        seeds: Sequence[int],
        values: Mapping[str, npt.NDArray[np.floating[Any]]],
        *,
        lower_is_better: bool = False,
    ) -> None:
        """Put what a measure says of a set's pictures, side -> ``[texts, seeds]``, into the rows
        that were added of them."""
        scores = {
            (name, side, text, seed): float(found[row, place])
            for side, found in values.items()
            for row, text in enumerate(texts)
            for place, seed in enumerate(seeds)
        }
        about = (self.columns[key] for key in ("prompts", "side", "prompt", "seed"))
        filled = self._whole(column)
        self.columns[column] = [
            scores.get(key, before)
            for key, before in zip(zip(*about, strict=True), filled, strict=True)
        ]
        if lower_is_better:
            self._descending.add(column)

    def table(self) -> pa.Table:
        """All rows; null where a measure was not asked."""
        found = pa.table({name: self._whole(name) for name in self.columns})
        fields = [
            one.with_metadata({LOWER_IS_BETTER: b"true"}) if one.name in self._descending else one
            for one in found.schema
        ]
        return found.cast(pa.schema(fields))

    def _whole(self, column: str) -> list[Any]:
        """With nulls for the rows that came since."""
        found = self.columns.get(column, [])
        rows = max(map(len, self.columns.values()), default=0)
        return found + [None] * (rows - len(found))
