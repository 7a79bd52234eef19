"""Which split a sample belongs to."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from surd.dataset.description import SPLITS
from surd.recipe.publish import PublishParams
from surd.store.aligned import read_aligned
from surd.store.workspace import Workspace

Keys = npt.NDArray[np.uint64]
_NO_WORDS = re.compile(r"[\W_]+")


def split_of(cluster: str, params: PublishParams) -> str:
    """The split of a near-duplicate cluster (of a sample, where none were looked for).

    Depends on the name of the cluster alone. Test comes first, so that another share of validation
    moves nothing into or out of it.
    """
    point = _hash(f"split\0{cluster}") / 2**64
    if point < params.test:
        return "test"
    return "validation" if point < params.test + params.validation else "train"


def assign(
    workspace: Workspace, parts: Sequence[int], groups: Sequence[str], params: PublishParams
) -> dict[int, pa.Array]:
    """Part -> the split of each of its samples, whatever their verdicts.

    Near-duplicates and samples with equal complex prompts, and those joined to them by others, are
    in one split: that of the cluster of the first among them, in the order of collection. So a
    sample stays where it is while the dataset grows, unless it joins what was there before it.
    """
    prompts: list[Keys] = []
    clusters: list[Keys] = []
    splits: list[npt.NDArray[np.int8]] = []
    given = {"prompts": ["complex_prompt"], "duplicates": ["cluster"]}
    for part in parts:
        tables = read_aligned(workspace, part, {g: c for g, c in given.items() if g in groups})
        ids = tables["prompts"]["id"].to_pylist()
        texts = tables["prompts"]["complex_prompt"].to_pylist()
        names = tables["duplicates"]["cluster"].to_pylist() if "duplicates" in tables else ids
        said = (
            f"no prompt\0{id_}" if text is None else normalized(text)
            for id_, text in zip(ids, texts, strict=True)
        )
        prompts.append(np.array(list(map(_hash, said)), np.uint64))
        clusters.append(np.array(list(map(_hash, names)), np.uint64))
        splits.append(np.array([SPLITS.index(split_of(name, params)) for name in names], np.int8))
    first = first_of_group(np.concatenate(prompts), np.concatenate(clusters))
    found = pa.array(SPLITS).take(pa.array(np.concatenate(splits)[first]))
    ends = np.cumsum([len(some) for some in splits]).tolist()
    return {
        part: found.slice(end - len(some), len(some))
        for part, some, end in zip(parts, splits, ends, strict=True)
    }


def normalized(prompt: str) -> str:
    """A prompt without what changes no word: case, punctuation, widths of characters."""
    text = unicodedata.normalize("NFKC", prompt).casefold()
    return _NO_WORDS.sub(" ", text).strip() or text.strip()


def first_of_group(*keys: Keys) -> npt.NDArray[np.int64]:
    """For each row ``[n]`` the first one that it is joined to: rows that are equal in any of the
    `keys` ``[n]`` are joined, and so is what is joined to one of them."""
    codes = [np.unique(some, return_inverse=True)[1].reshape(-1) for some in keys]
    first: npt.NDArray[np.int64] = np.arange(len(keys[0]))
    while True:
        before = first
        for some in codes:
            least = np.full(len(first), len(first))
            np.minimum.at(least, some, first)
            first = least[some]
        first = first[first]  # a chain of joins gets half as long
        if np.array_equal(first, before):
            return first


def _hash(text: str) -> int:
    """64 bits."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
