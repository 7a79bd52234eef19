"""Dedup: which samples show the same picture as a better one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from surd.params import Params
from surd.stages.base import Stage, TableFunction, WholeTable, part_by_part
from surd.store.schema import DUPLICATES


class DedupParams(Params):
    """When two pictures count as the same. The filter decides whether that drops one."""

    max_hamming: int | None = Field(
        default=4,
        ge=0,
        le=16,
        description="number of bits by which perceptual hashes may differ; null: off",
    )
    min_cosine: float | None = Field(
        default=0.96, gt=0, le=1, description="minimum cosine of CLIP image embeddings; null: off"
    )
    max_hamming_with_cosine: int | None = Field(
        default=None,
        ge=0,
        le=64,
        description="count images as near by CLIP only if their perceptual hashes differ in at "
        "most this many bits, as for drawings with few objects; null: CLIP alone "
        "decides",
    )


def open_(params: DedupParams) -> TableFunction:
    """The function that looks at all rows."""
    return lambda whole: _find(whole, params)


def _find(whole: WholeTable, params: DedupParams) -> Iterator[pa.Table]:
    """The columns of all rows, the search, and its answer part by part.

    Kept is the picture with the most pixels; of equals, the nearer to its complex prompt; of
    those, the one with the lower id.
    """
    from surd.stages.dedup.find import KINDS, find

    with tempfile.TemporaryDirectory(prefix="surd-dedup-") as scratch:
        sizes, columns, embeddings = _read(whole(lambda table: table), Path(scratch) / "embeddings")
        found = find(
            columns["sha256"],
            columns["phash"],
            embeddings,
            _quality(columns),
            columns["id"],
            max_hamming=params.max_hamming,
            min_cosine=params.min_cosine,
            clip_max_hamming=params.max_hamming_with_cosine,
            embedded=columns["image_embedding"].to_numpy(zero_copy_only=False),
        )
        kinds = pa.array(KINDS, pa.string())
        table = pa.Table.from_arrays(
            [
                columns["id"],
                columns["id"].take(pa.array(found.keeper)),
                pa.array(found.size),
                kinds.take(pa.array(found.kind)),
                pa.array(found.similarity, from_pandas=True),
            ],
            names=DUPLICATES.names,
        )
    yield from part_by_part(table, sizes, DUPLICATES)


def _read(
    tables: Iterator[pa.Table], scratch: Path
) -> tuple[list[int], dict[str, pa.Array], npt.NDArray[np.float16] | None]:
    """Small columns in memory, embeddings ``[n, d]`` in a file; a zero row where there is none.

    In place of the embeddings, the column tells which rows have one.
    """
    sizes: list[int] = []
    pieces: list[pa.Table] = []
    width = 0
    with scratch.open("wb") as file:
        for table in tables:
            column = table["image_embedding"].combine_chunks()
            there = column.is_valid()
            rows = table.num_rows
            values = column.flatten().to_numpy()
            have = there.to_numpy(zero_copy_only=False)
            if len(values):
                if not width:
                    width = len(values) // int(have.sum())
                    file.write(b"\0" * (2 * width * sum(sizes)))
                block = np.zeros((rows, width), np.float16)
                block[have] = values.reshape(-1, width)
                file.write(block.tobytes())
            elif width:
                file.write(b"\0" * (2 * width * rows))
            sizes.append(rows)
            place = table.column_names.index("image_embedding")
            pieces.append(_large(table.set_column(place, "image_embedding", there)))
    joined = pa.concat_tables(pieces)
    columns = {name: joined[name].combine_chunks() for name in joined.column_names}
    if not width:
        return sizes, columns, None
    return sizes, columns, np.memmap(scratch, np.float16, "r", shape=(sum(sizes), width))


def _large(table: pa.Table) -> pa.Table:
    """Texts with 64-bit offsets: of 34 million checksums in one piece 32 bits overflow."""
    return table.cast(
        pa.schema(
            field.with_type(pa.large_string()) if pa.types.is_string(field.type) else field
            for field in table.schema
        )
    )


def _quality(columns: dict[str, pa.Array]) -> npt.NDArray[np.float64]:
    """``[n, 2]``: pixels, then the cosine with the complex prompt; NaN where unknown."""
    width, height, score = (
        columns[name].cast(pa.float64()).to_numpy(zero_copy_only=False)
        for name in ("width", "height", "cos_complex")
    )
    return np.stack([width * height, score], axis=1)


STAGE = Stage(
    name="dedup",
    group="duplicates",
    version=1,
    reads={
        "images": ("sha256", "phash", "width", "height"),
        "clip": ("image_embedding", "cos_complex"),
    },
    schema=DUPLICATES,
    params=DedupParams,
    open=open_,
    scope="table",
)
