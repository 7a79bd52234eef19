"""The one entry: which rows are duplicates of which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from surd.stages.dedup import cells, cosine, hamming
from surd.stages.dedup.distinct import best_first, first_rows, image_numbers, parse_hashes
from surd.stages.dedup.stars import Search, stars

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

KINDS: tuple[str | None, ...] = (None, "exact", "phash", "clip")
"""What :attr:`Duplicates.kind` counts in; None for a row that is kept."""
_EXACT, _PHASH, _CLIP = 1, 2, 3
MAX_HAMMING = 4
"""Among a million random hashes 0.02 pairs are this near."""
MIN_COSINE = 0.95


@dataclass(frozen=True)
class Duplicates:
    """What each of n rows is a duplicate of. Clusters are stars: see :mod:`.stars`.

    Every dropped row matches the row that is kept instead, by itself. No two kept rows match.
    """

    keeper: NDArray[np.int64]
    """``[n]``: the row that is kept, best by the order that was asked for; itself when kept."""
    kind: NDArray[np.uint8]
    """``[n]``: how the row matches its keeper, in ``KINDS``, the first of them that holds."""
    similarity: NDArray[np.float32]
    """``[n]``, to the keeper: 1 for exact, share of equal bits for phash, cosine for clip; NaN for
    rows that are kept."""
    size: NDArray[np.int32]
    """``[n]``: rows in the cluster, 1 when the row has no duplicates."""

    @property
    def kept(self) -> NDArray[np.bool_]:
        """``[n]``: which rows are kept."""
        kept: NDArray[np.bool_] = self.kind == 0
        return kept


@dataclass(frozen=True)
class _Features:
    """Of n different images, from best to worst."""

    hashes: NDArray[np.uint64]
    has_hash: NDArray[np.bool_]
    telling: NDArray[np.bool_]
    """Which hashes are evidence; see :func:`surd.stages.dedup.hamming.telling`."""
    rows: NDArray[np.int64]
    """Where the embedding is, or -1."""

    def near(
        self, a: NDArray[np.int64], b: NDArray[np.int64], max_hamming: int
    ) -> NDArray[np.bool_]:
        """Which pairs ``[p]`` have hashes, at most ``max_hamming`` bits apart."""
        distance = hamming.popcount(self.hashes[a] ^ self.hashes[b])
        result: NDArray[np.bool_] = self.has_hash[a] & self.has_hash[b] & (distance <= max_hamming)
        return result


def find(
    sha256: Sequence[str | None] | pa.Array,
    phash: Sequence[str | None] | pa.Array | None,
    embeddings: NDArray[Any] | None,
    quality: NDArray[Any],
    ids: Sequence[str] | pa.Array,
    *,
    max_hamming: int | None = MAX_HAMMING,
    min_cosine: float | None = MIN_COSINE,
    clip_max_hamming: int | None = None,
    embedded: NDArray[np.bool_] | None = None,
    slack: float = cosine.SLACK,
    seed: int = 0,
) -> Duplicates:
    """Find duplicates among n rows, and keep the best of each cluster.

    Two rows match when one of these holds:

    - *exact*: their ``sha256`` are equal;
    - *phash*: their ``phash`` differ in at most ``max_hamming`` bits, and both are telling
      (flat pictures' hashes and very common ones are not: :func:`.hamming.telling`).
      All such pairs are found (multi-index hashing, https://arxiv.org/abs/1307.2982);
    - *clip*: the cosine of their embeddings is at least ``min_cosine``, and, when
      ``clip_max_hamming`` is given, both have a ``phash`` and these differ in at most so many bits.
      Not all such pairs are found, see :func:`surd.stages.dedup.cosine.reach_for`; none is made up.

    CLIP sees what a picture shows, not its pixels: different pictures of one simple scene may have
    cosines near 1. The hash sees where it is light and dark, in grey and 32 pixels wide: drawings
    of different things in the same places may be 2 to 4 bits apart. For drawings, icons and the
    like ask for both at once: ``max_hamming=None, clip_max_hamming=4``. For other pictures a loose
    ``clip_max_hamming``, of 16 or so, keeps the same subject in another pose apart.

    Rows with equal ``sha256`` are one image: the hash and embedding of the best row that has them
    stand for all. The same input gives the same output: nothing depends on the timing of threads.

    Args:
        sha256: n strings; None matches nothing exactly.
        phash: n times 16 hexadecimal digits, or None where there is none.
        embeddings: ``[n, d]`` float16 (or float32), an array or memory map; rows are normalized
            here. Rows of zeros, or with numbers that are not finite, count as missing.
        quality: ``[n]`` or ``[n, k]`` numbers; higher is better, the first column decides first.
            NaN is worst. What is equal in all goes by id, then by row.
        ids: n strings.
        max_hamming: 0..16; None: no matches of kind phash.
        min_cosine: above 0, at most 1; None: no matches of kind clip.
        clip_max_hamming: 0..64, or None: the hash has no say in matches of kind clip.
        embedded: ``[n]`` bool, False where a row of ``embeddings`` means nothing.
        slack: 0..1: how much of the search for cosines is without exception; 1 finds all pairs,
            as long as rows have no more than ``cells.MAX_VISITS`` cells near, and takes longer.
        seed: of the sample that cells are made from.

    Raises:
        ValueError: when lengths differ, a number is out of range, or a hash is malformed.
    """
    n = len(ids)
    _check_lengths(n, sha256, phash, embeddings, quality, embedded)
    _check_ranges(max_hamming, min_cosine, clip_max_hamming, slack)
    order = best_first(quality, ids)
    images, count = image_numbers(sha256, order)
    features = _features(n, phash, embeddings, embedded, images, order, count)
    searches: list[Search] = []
    if max_hamming is not None and features.telling.any():
        searches.append(partial(hamming.search, features.hashes, features.telling, max_hamming))
    if embeddings is not None and min_cosine is not None and (features.rows >= 0).any():
        searches.append(
            _clip_search(features, embeddings, min_cosine, clip_max_hamming, slack, seed)
        )
    keeper_image = stars(count, searches)
    return _describe(order, images, keeper_image, features, embeddings, max_hamming)


def _features(
    n: int,
    phash: Sequence[str | None] | pa.Array | None,
    embeddings: NDArray[Any] | None,
    embedded: NDArray[np.bool_] | None,
    images: NDArray[np.int64],
    order: NDArray[np.int64],
    count: int,
) -> _Features:
    """Hash and embedding of each of ``count`` images, from its best row that has one."""
    hashes, has = np.zeros(count, np.uint64), np.zeros(count, np.bool_)
    telling = np.zeros(count, np.bool_)
    if phash is not None:
        row_hashes, row_has = parse_hashes(phash)
        best = first_rows(images, order, count, row_has)
        has = best >= 0
        hashes[has] = row_hashes[best[has]]
        telling[has] = hamming.telling(hashes[has])
    rows = np.full(count, -1, np.int64)
    if embeddings is not None:
        candidates = np.flatnonzero(embedded) if embedded is not None else np.arange(n)
        row_usable = np.zeros(n, np.bool_)
        row_usable[candidates] = cosine.usable(embeddings, candidates)
        rows = first_rows(images, order, count, row_usable)
    return _Features(hashes, has, telling, rows)


def _clip_search(
    features: _Features,
    embeddings: NDArray[Any],
    min_cosine: float,
    clip_max_hamming: int | None,
    slack: float,
    seed: int,
) -> Search:
    """The search for cosines, over cells made here."""

    def read(numbers: NDArray[np.int64]) -> NDArray[np.float32]:
        return cosine.read_units(embeddings, features.rows[numbers])

    having = features.rows >= 0
    if clip_max_hamming is not None:
        having &= features.has_hash
    reach = cosine.reach_for(min_cosine, slack)
    made = cells.make_cells(np.flatnonzero(having), read, reach, seed=seed)
    allow = None
    if clip_max_hamming is not None:
        allow = partial(features.near, max_hamming=clip_max_hamming)
    return partial(cosine.search, embeddings, features.rows, made, min_cosine, allow)


def _describe(
    order: NDArray[np.int64],
    images: NDArray[np.int64],
    keeper_image: NDArray[np.int64],
    features: _Features,
    embeddings: NDArray[Any] | None,
    max_hamming: int | None,
) -> Duplicates:
    """From images to rows: keeper, kind, similarity and cluster size of each."""
    n, count = order.size, keeper_image.size
    best_row = first_rows(images, order, count, np.ones(n, np.bool_))
    keeper = best_row[keeper_image[images]]
    kind = np.zeros(n, np.uint8)
    similarity = np.full(n, np.nan, np.float32)

    exact = (keeper_image[images] == images) & (keeper != np.arange(n))
    kind[exact], similarity[exact] = _EXACT, 1.0

    dropped = np.flatnonzero(keeper_image != np.arange(count))
    target = keeper_image[dropped]
    image_kind = np.zeros(count, np.uint8)
    image_similarity = np.full(count, np.nan, np.float32)
    if max_hamming is None:
        by_hash = np.zeros(dropped.size, np.bool_)
    else:
        by_hash = features.near(dropped, target, max_hamming)
        by_hash &= features.telling[dropped] & features.telling[target]
    a, b = dropped[by_hash], target[by_hash]
    image_kind[a] = _PHASH
    image_similarity[a] = 1 - hamming.popcount(features.hashes[a] ^ features.hashes[b]) / 64
    a, b = dropped[~by_hash], target[~by_hash]
    if a.size and embeddings is not None:
        image_kind[a] = _CLIP
        rows = features.rows
        image_similarity[a] = cosine.exact_cosines(embeddings, rows[a], rows[b])
    near = keeper_image[images] != images
    kind[near], similarity[near] = image_kind[images[near]], image_similarity[images[near]]

    size = np.bincount(keeper, minlength=n)[keeper].astype(np.int32)
    return Duplicates(keeper, kind, similarity, size)


def _check_lengths(
    n: int,
    sha256: Sequence[str | None] | pa.Array,
    phash: Sequence[str | None] | pa.Array | None,
    embeddings: NDArray[Any] | None,
    quality: NDArray[Any],
    embedded: NDArray[np.bool_] | None,
) -> None:
    given = {"sha256": sha256, "phash": phash, "embeddings": embeddings, "quality": quality}
    for name, values in {**given, "embedded": embedded}.items():
        if values is not None and len(values) != n:
            raise ValueError(f"{name} has {len(values):,} rows, ids has {n:,}")
    if embeddings is not None and (embeddings.ndim != 2 or embeddings.dtype.kind != "f"):
        raise ValueError(
            f"embeddings are {embeddings.dtype} of shape {embeddings.shape}; they must be floats "
            "of shape [n, d]"
        )


def _check_ranges(
    max_hamming: int | None,
    min_cosine: float | None,
    clip_max_hamming: int | None,
    slack: float,
) -> None:
    if max_hamming is not None and not 0 <= max_hamming <= hamming.MAX_DISTANCE:
        raise ValueError(f"max_hamming is {max_hamming}; it must be in 0..{hamming.MAX_DISTANCE}")
    if min_cosine is not None and not 0 < min_cosine <= 1:
        raise ValueError(f"min_cosine is {min_cosine}; it must be in (0, 1]")
    if clip_max_hamming is not None and not 0 <= clip_max_hamming <= hamming.BITS:
        raise ValueError(f"clip_max_hamming is {clip_max_hamming}; it must be in 0..{hamming.BITS}")
    if not 0 <= slack <= 1:
        raise ValueError(f"slack is {slack}; it must be in 0..1")
