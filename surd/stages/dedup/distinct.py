"""From rows to different images: order by quality, equal bytes, hashes as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from surd.stages.dedup.hamming import BITS

if TYPE_CHECKING:
    from numpy.typing import NDArray

_HASH_DIGITS = BITS // 4


def best_first(quality: NDArray[Any], ids: Sequence[str] | pa.Array) -> NDArray[np.int64]:
    """Row numbers ``[n]`` int64 from best to worst.

    ``quality`` ``[n]`` or ``[n, k]``: numbers, higher is better; of several columns the first
    decides, the second where the first is equal, and so on. NaN is worst. Then the smaller of
    ``ids`` comes first, then the earlier row.
    """
    columns = np.atleast_2d(np.asarray(quality, np.float64).T)
    keys = [f"quality {number}" for number in range(len(columns))]
    table = pa.table([*map(_nullable, columns), _texts(ids)], names=[*keys, "id"])
    order = [*((key, "descending") for key in keys), ("id", "ascending")]
    return pc.sort_indices(table, sort_keys=order).to_numpy().astype(np.int64)  # type: ignore[no-any-return]


def image_numbers(
    sha256: Sequence[str | None] | pa.Array, order: NDArray[np.int64]
) -> tuple[NDArray[np.int64], int]:
    """The image of each row, ``[n]`` int64, and how many images there are.

    Rows with equal ``sha256`` are one image; None is an image of its own. Images are numbered in
    the ``order`` ``[n]`` of their best rows.
    """
    codes = _texts(sha256).dictionary_encode().indices
    given = codes.fill_null(-1).to_numpy().astype(np.int64)[order]
    given = np.where(given < 0, order.size + np.arange(order.size), given)
    _, first, inverse = np.unique(given, return_index=True, return_inverse=True)
    number = np.empty(first.size, np.int64)
    number[np.argsort(first)] = np.arange(first.size)
    images = np.empty(order.size, np.int64)
    images[order] = number[inverse.reshape(-1)]
    return images, first.size


def first_rows(
    images: NDArray[np.int64], order: NDArray[np.int64], n: int, has: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """``[n]`` int64: the best row of each of ``n`` images that ``has`` something, -1 if none."""
    rows = order[has[order]]
    found, first = np.unique(images[rows], return_index=True)
    result = np.full(n, -1, np.int64)
    result[found] = rows[first]
    return result


def parse_hashes(
    phash: Sequence[str | None] | pa.Array,
) -> tuple[NDArray[np.uint64], NDArray[np.bool_]]:
    """Hashes ``[n]`` uint64 of 16 hexadecimal digits each, and which are there, ``[n]`` bool.

    Raises ValueError when one is something else.
    """
    texts = _texts(phash)
    has = texts.is_valid().to_numpy(zero_copy_only=False)
    hashes = np.zeros(len(texts), np.uint64)
    given = texts.drop_null()
    wrong = pc.invert(pc.match_substring_regex(given, f"^[0-9a-fA-F]{{{_HASH_DIGITS}}}$"))
    if pc.any(wrong).as_py():
        row = int(np.flatnonzero(has)[np.flatnonzero(wrong.to_numpy(zero_copy_only=False))[0]])
        raise ValueError(
            f"phash[{row}] is {texts[row].as_py()!r}; it must be {_HASH_DIGITS} hexadecimal digits"
        )
    digits = "".join(given.to_pylist())
    hashes[has] = np.frombuffer(bytes.fromhex(digits), ">u8")
    return hashes, has


def _nullable(column: NDArray[np.float64]) -> pa.Array:
    return pa.array(column, from_pandas=True)  # NaN to null, which sorts last


def _texts(values: Sequence[str | None] | pa.Array) -> pa.Array:
    """An Arrow array of strings, in one piece."""
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    array = values if isinstance(values, pa.Array) else pa.array(values, pa.large_string())
    return array.cast(pa.large_string())
