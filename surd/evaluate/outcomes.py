"""What an evaluation found, picture by picture: the rows of ``evaluation.parquet``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from surd.errors import SurdError, one_line
from surd.files.parquet_pages import BombError, check_group, check_rows, read_groups
from surd.store.part_columns import check_texts
from surd.untrusted import open_regular

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LOWER_IS_BETTER = b"lower_is_better"
"""Key of a column's metadata, where that is so."""
FILE = "evaluation.parquet"
KEYS = {name: pa.string() for name in ("prompts", "side", "kind", "prompt", "picture")} | {
    "seed": pa.int64()
}
"""Columns that say what a row is about: no value is missing."""


def read_outcomes(
    path: Path, keys: Sequence[str], answers: Mapping[str, pa.DataType] | None = None
) -> pa.Table:
    """The columns `keys` of KEYS, and `answers`, whose values may be missing; None: all measures,
    which are numbers or yes and no. Raises SurdError for what surd did not write."""
    try:
        with open_regular(path) as file, pq.ParquetFile(file) as parquet:
            groups = read_groups(file)
            check_rows(parquet.metadata, path.stat().st_size)
            schema = parquet.schema_arrow
            if answers is None:
                answers = {one.name: one.type for one in schema if _is_measure(one.type)}
            _check_types(schema, {**{name: KEYS[name] for name in keys}, **answers}, keys)
            names = [*keys, *answers]
            for number in range(len(groups)):
                check_group(path, groups, number, names, are_images=True)
            table = parquet.read(names)
        check_texts(table)
        for name in keys:
            if table[name].null_count:
                raise ValueError(f"a row without {name}")
    except (pa.ArrowException, OSError, BombError, ValueError) as error:
        raise SurdError(
            f"{path}: cannot be read: {one_line(error)}; run surd evaluate again"
        ) from error
    return table


def _is_measure(type_: pa.DataType) -> bool:
    return bool(pa.types.is_floating(type_) or pa.types.is_boolean(type_))


def _check_types(schema: pa.Schema, wanted: Mapping[str, pa.DataType], keys: Sequence[str]) -> None:
    """Raises ValueError."""
    for name, type_ in wanted.items():
        found = [field.type for field in schema if field.name == name]
        if len(found) != 1:
            raise ValueError(f"{'no' if not found else 'more than one'} column {name}")
        if found[0] != type_ and not (pa.types.is_null(found[0]) and name not in keys):
            raise ValueError(f"{name} is {found[0]}, not {type_}")


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
