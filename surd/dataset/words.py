"""Words that people look for: the one way in which ``surd inspect`` and ``surd view`` find them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

SEARCHED = ("prompt", "path")
"""Columns of `samples` in which words are looked for, besides the simple prompts of today."""


def have_words(
    samples: pa.Table, simple: pa.ChunkedArray, words: str, among: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """``[n]``: who of ``among`` ``[n]`` has all of the words in its prompts, simple or complex, or
    its path, also within longer words; case does not matter.

    ``samples`` has the columns SEARCHED, ``simple`` are the simple prompts.
    """
    hit = among.copy()
    searched = pa.table([*samples.select(SEARCHED).columns, simple], [*SEARCHED, "simple"])
    for word in sorted(words.split(), key=len, reverse=True):  # the longest is in the fewest
        left = searched if hit.all() else searched.filter(pa.array(hit))
        found = np.zeros(len(left), np.bool_)
        for column in left.columns:
            if not found.all():
                found |= has_text(column, word)
        hit[hit] = found
    return hit


def has_text(column: pa.ChunkedArray, text: str) -> npt.NDArray[np.bool_]:
    """``[n]``: where a text is in a column; case does not matter."""
    hit: npt.NDArray[np.bool_] = (
        pc.match_substring(column, text, ignore_case=True).fill_null(False).to_numpy()
    )
    return hit
