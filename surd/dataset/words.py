"""Words that people look for: the one way in which ``surd inspect`` and ``surd view`` find them."""

from __future__ import annotations

import unicodedata

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

SEARCHED = ("prompt", "path", "source_id")
"""Columns of `samples` in which words are looked for, besides the simple prompts of today."""
_LOOKED_AT = 200
"""Samples, to see which words are rare."""

Bools = npt.NDArray[np.bool_]


def have_words(samples: pa.Table, simple: pa.ChunkedArray, words: str, among: Bools) -> Bools:
    """``[n]``: who of ``among`` ``[n]`` has all of the words in its prompts, simple or complex, or
    its path below its source, also within longer words; case does not matter, nor whether letters
    and their accents are one character or two.

    ``samples`` has the columns SEARCHED, ``simple`` are the simple prompts.
    """
    hit = among.copy()
    searched = samples.select(SEARCHED).append_column("simple", simple)
    for word in _rarest_first(words.split(), searched):
        left = searched if hit.all() else searched.filter(pa.array(hit))
        hit[hit] = _have_word(left, word)
    return hit


def _rarest_first(words: list[str], searched: pa.Table) -> list[str]:
    """By how many of the first samples have them, so that the others are looked for in few; of
    words that none of these has, the longest first."""
    some = searched.slice(0, _LOOKED_AT if len(words) > 1 else 0)
    return sorted(words, key=lambda word: (int(_have_word(some, word).sum()), -len(word)))


def _have_word(samples: pa.Table, word: str) -> Bools:
    found = np.zeros(len(samples), np.bool_)
    for form in sorted({word, *(unicodedata.normalize(form, word) for form in ("NFC", "NFD"))}):
        for name in ("prompt", "path", "simple"):
            if not found.all():
                hit = has_text(samples[name], form)
                if name == "path":
                    hit &= ~found
                    hit[hit] = _below_sources(samples.filter(pa.array(hit)), form)
                found |= hit
    return found


def _below_sources(samples: pa.Table, text: str) -> Bools:
    """Of samples with a text in their paths: who has it not only in the folders above its source,
    which all samples have in common."""
    if samples["source_id"].null_count == len(samples):
        return np.ones(len(samples), np.bool_)
    pairs = zip(samples["path"].to_pylist(), samples["source_id"].to_pylist(), strict=True)
    ends = [
        path if (below := below_source(path, id_)) is None else path[1 - len(below + text) :]
        for path, id_ in pairs
    ]
    return has_text(pa.chunked_array([ends], pa.string()), text)


def below_source(path: str | None, source_id: str | None) -> str | None:
    """The path of a file below its source's folder or archive, where the source has it for an
    id."""
    if path and source_id and path.endswith((f"/{source_id}", f"::{source_id}")):
        return source_id
    return None


def has_text(column: pa.ChunkedArray, text: str) -> Bools:
    """``[n]``: where a text is in a column; case does not matter."""
    hit: Bools = pc.match_substring(column, text, ignore_case=True).fill_null(False).to_numpy()
    return hit
