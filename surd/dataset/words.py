"""Words that people look for: the one way in which ``surd inspect`` and ``surd view`` find them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

SEARCHED = ("prompt", "path")
"""Columns of `samples` in which words are looked for, besides the simple prompts of today."""
_LOOKED_AT = 200
"""Samples, to see which words are rare."""


def have_words(
    samples: pa.Table, simple: pa.ChunkedArray, words: str, among: npt.NDArray[np.bool_]
) -> npt.NDArray[np.bool_]:
    """``[n]``: who of ``among`` ``[n]`` has all of the words in its prompts, simple or complex, or
    its path, also within longer words; case does not matter.

    ``samples`` has the columns SEARCHED, ``simple`` are the simple prompts.
    """
    hit = among.copy()
    searched = pa.table([*samples.select(SEARCHED).columns, simple], [*SEARCHED, "simple"])
    for word in _rarest_first(words.split(), searched):
        left = searched if hit.all() else searched.filter(pa.array(hit))
        found = np.zeros(len(left), np.bool_)
        for column in left.columns:
            if not found.all():
                found |= has_text(column, word)
        hit[hit] = found
    return hit


def _rarest_first(words: list[str], searched: pa.Table) -> list[str]:
    """By how often the first samples have them, so that the others are looked for in few; of words
    that none of these has, the longest first."""
    some = searched.slice(0, _LOOKED_AT if len(words) > 1 else 0)

    def frequency(word: str) -> tuple[int, int]:
        return sum(int(has_text(column, word).sum()) for column in some.columns), -len(word)

    return sorted(words, key=frequency)


def has_text(column: pa.ChunkedArray, text: str) -> npt.NDArray[np.bool_]:
    """``[n]``: where a text is in a column; case does not matter."""
    hit: npt.NDArray[np.bool_] = (
        pc.match_substring(column, text, ignore_case=True).fill_null(False).to_numpy()
    )
    return hit
