"""What counts as a duplicate of what, compared with going through all pairs."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surd.stages.dedup.find import KINDS, Duplicates, find
from surd.stages.dedup.hamming import MAX_COMMON, MIN_ONES

COSINE = 0.9012345  # no cosine of small whole numbers
BASE = 0x5A5A_A5A5_3C3C_C3C3


def hexadecimal(value: int) -> str:
    return f"{value:016x}"


def telling(value: int) -> bool:
    return MIN_ONES <= value.bit_count() <= 64 - MIN_ONES


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a.astype(np.float64), b.astype(np.float64)
    return float(a @ b / math.sqrt((a @ a) * (b @ b)))


def by_all_pairs(
    sha256: list[str | None],
    hashes: list[int | None],
    embeddings: np.ndarray,
    quality: np.ndarray,
    ids: list[str],
    max_hamming: int,
    clip_max_hamming: int | None,
) -> tuple[list[int], list[str | None]]:
    """Keeper and kind of each row, the slow and plain way."""
    n = len(ids)
    order = sorted(range(n), key=lambda i: (-quality[i], ids[i], i))
    images: list[list[int]] = []
    for row in order:
        same = [m for m in images if sha256[row] is not None and sha256[m[0]] == sha256[row]]
        if same:
            same[0].append(row)
        else:
            images.append([row])
    hash_of = [next((hashes[r] for r in m if hashes[r] is not None), None) for m in images]
    row_of = [next((r for r in m if embeddings[r].any()), None) for m in images]

    def kind(a: int, b: int) -> str | None:
        distance = 99
        if hash_of[a] is not None and hash_of[b] is not None:
            distance = (hash_of[a] ^ hash_of[b]).bit_count()
            if distance <= max_hamming and telling(hash_of[a]) and telling(hash_of[b]):
                return "phash"
        if row_of[a] is None or row_of[b] is None:
            return None
        if clip_max_hamming is not None and distance > clip_max_hamming:
            return None
        near = cosine(embeddings[row_of[a]], embeddings[row_of[b]]) >= COSINE
        return "clip" if near else None

    keeper, kinds = [0] * n, [None] * n
    kept: list[int] = []
    for number, members in enumerate(images):
        found = next(((k, kind(k, number)) for k in kept if kind(k, number)), None)
        if found is None:
            kept.append(number)
        for row in members:
            keeper[row] = images[found[0] if found else number][0]
            if row != keeper[row]:
                kinds[row] = found[1] if found else "exact"
    return keeper, kinds


@st.composite
def tables(draw: st.DrawFn) -> dict:
    n = draw(st.integers(0, 24))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    flips = [1 << int(bit) for bit in rng.integers(0, 64, 4)]
    centres = [BASE, BASE ^ 0xFF, int(rng.integers(0, 2**63)), 0, 1 << 63]
    hashes: list[int | None] = []
    for _ in range(n):
        value = centres[rng.integers(len(centres))]
        for flip in flips[: rng.integers(0, 5)]:
            value ^= flip
        hashes.append(None if rng.random() < 0.2 else value)
    embeddings = rng.integers(-2, 3, (n, 3)).astype(np.float16)  # with some rows of zeros
    sha256 = [None if rng.random() < 0.3 else f"{rng.integers(0, n + 1):064x}" for _ in range(n)]
    return {
        "sha256": sha256,
        "hashes": hashes,
        "embeddings": embeddings,
        "quality": rng.integers(0, 4, n).astype(float),
        "ids": [f"id{rng.integers(0, 99):02}" for _ in range(n)],
        "max_hamming": draw(st.integers(0, 6)),
        "clip_max_hamming": draw(st.sampled_from([None, 0, 3, 10])),
    }


def find_in(table: dict, **options: object) -> Duplicates:
    phash = [None if value is None else hexadecimal(value) for value in table["hashes"]]
    return find(
        table["sha256"],
        phash,
        table["embeddings"],
        table["quality"],
        table["ids"],
        max_hamming=table["max_hamming"],
        min_cosine=COSINE,
        clip_max_hamming=table["clip_max_hamming"],
        **options,
    )


@settings(max_examples=300)
@given(tables())
def test_it_finds_what_going_through_all_pairs_finds(table):
    keeper, kinds = by_all_pairs(**table)
    found = find_in(table)
    assert found.keeper.tolist() == keeper
    assert [KINDS[code] for code in found.kind] == kinds


@settings(max_examples=100)
@given(tables())
def test_every_cluster_has_one_kept_row_that_its_rows_match_themselves(table):
    found = find_in(table)
    rows = np.arange(len(table["ids"]))
    assert (found.kept == (found.keeper == rows)).all()
    assert found.kept[found.keeper].all()
    sizes = [int((found.keeper == keeper).sum()) for keeper in found.keeper]
    assert found.size.tolist() == sizes
    assert (np.isnan(found.similarity) == found.kept).all()
    assert (found.similarity[found.kind == 1] == 1).all()
    assert (found.similarity[found.kind == 2] >= 1 - table["max_hamming"] / 64).all()
    assert (found.similarity[found.kind == 3] >= np.float32(COSINE)).all()


def rows(n: int, **given: object) -> dict:
    """Arguments for n rows that nothing is known of but what is given; the first is the best."""
    return {
        "sha256": [None] * n,
        "phash": None,
        "embeddings": None,
        "quality": -np.arange(n),
        "ids": [f"{i:06}" for i in range(n)],
        **given,
    }


@pytest.mark.parametrize("n", [0, 1])
def test_none_and_one_have_no_duplicates(n):
    found = find(**rows(n, phash=[hexadecimal(BASE)] * n, embeddings=np.ones((n, 8), np.float16)))
    assert found.keeper.tolist() == list(range(n))
    assert found.size.tolist() == [1] * n


def test_an_array_of_no_rows_may_have_any_types():
    found = find([], [], np.empty((0, 512), np.float16), np.empty((0, 2)), [])
    assert found.keeper.dtype == np.int64
    assert found.keeper.size == 0


@pytest.mark.parametrize("feature", ["sha256", "embeddings"])
def test_of_thousands_that_are_all_alike_the_best_is_kept(feature):
    n = 30_000
    alike = {"sha256": ["ab" * 32] * n, "embeddings": np.ones((n, 16), np.float16)}
    found = find(**rows(n, **{feature: alike[feature]}))
    assert (found.keeper == 0).all()
    assert (found.size == n).all()
    assert found.kept.sum() == 1


def test_quality_decides_who_is_kept_then_the_id():
    same = rows(4, sha256=["a"] * 4, ids=["d", "c", "b", "a"])
    assert find(**{**same, "quality": np.array([1, 3, 2, np.nan])}).keeper[0] == 1
    assert find(**{**same, "quality": np.ones(4)}).keeper[0] == 3
    columns = np.array([[1, 0], [2, 0], [2, 5], [2, 1]])
    assert find(**{**same, "quality": columns}).keeper[0] == 2


def test_a_chain_does_not_join_its_ends():
    angles = np.radians([0, 20, 40, 60])  # neighbours have a cosine of 0.94, others 0.77 and less
    chain = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float16)
    found = find(**rows(4, embeddings=chain), min_cosine=0.9)
    assert found.keeper.tolist() == [0, 0, 2, 2]
    middle_first = np.array([2, 3, 1, 0])
    found = find(**rows(4, embeddings=chain, quality=middle_first), min_cosine=0.9)
    assert found.keeper.tolist() == [1, 1, 1, 3]


@pytest.mark.parametrize("value", [0, 1 << 63, 2**64 - 1, 0xFF00_0000_0000_0000])
def test_hashes_of_flat_pictures_are_no_evidence(value):
    found = find(**rows(50, phash=[hexadecimal(value)] * 50))
    assert found.kept.all()


def test_a_hash_that_very_many_images_share_is_no_evidence():
    n = MAX_COMMON + 1
    assert find(**rows(n, phash=[hexadecimal(BASE)] * n)).kept.all()
    assert find(**rows(n - 1, phash=[hexadecimal(BASE)] * (n - 1))).kept.sum() == 1


def test_copies_of_one_file_do_not_make_its_hash_common():
    n = MAX_COMMON + 50
    sha256 = ["a"] * (n - 1) + ["b"]
    found = find(**rows(n, sha256=sha256, phash=[hexadecimal(BASE)] * n))
    assert (found.keeper == 0).all()
    assert [KINDS[code] for code in found.kind[-2:]] == ["exact", "phash"]


def test_rows_without_a_hash_or_embedding_match_nothing_by_it():
    embeddings = np.ones((4, 8), np.float16)
    embeddings[2] = 0
    embeddings[3] = np.nan
    phash = [hexadecimal(BASE), None, None, hexadecimal(BASE)]
    found = find(**rows(4, phash=phash, embeddings=embeddings))
    assert found.keeper.tolist() == [0, 0, 2, 0]
    assert [KINDS[code] for code in found.kind] == [None, "clip", None, "phash"]
    masked = find(
        **rows(4, embeddings=np.ones((4, 8), np.float16)), embedded=np.array([1, 0, 1, 0], bool)
    )
    assert masked.keeper.tolist() == [0, 1, 0, 3]


def test_the_hash_may_have_a_say_in_clip_matches():
    phash = [hexadecimal(BASE ^ bits) for bits in (0, 0xFF, 0xFFFF)] + [None]
    given = rows(4, phash=phash, embeddings=np.ones((4, 8), np.float16))
    assert find(**given).keeper.tolist() == [0, 0, 0, 0]
    assert find(**given, clip_max_hamming=8).keeper.tolist() == [0, 0, 2, 3]
    assert find(**given, min_cosine=None).kept.all()


def test_both_may_be_asked_for_at_once():
    phash = [hexadecimal(BASE ^ bits) for bits in (0, 0, 1, 0xFFFF)]
    embeddings = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], np.float16)
    given = rows(4, phash=phash, embeddings=embeddings)
    assert find(**given).keeper.tolist() == [0, 0, 0, 0]
    both = find(**given, max_hamming=None, clip_max_hamming=4)
    assert both.keeper.tolist() == [0, 1, 0, 3]
    assert [KINDS[code] for code in both.kind] == [None, None, "clip", None]


def test_arrow_arrays_will_do():
    texts = pa.chunked_array([["a", "b"], ["a", None]])
    found = find(**rows(4, sha256=texts, ids=pa.array(["4", "3", "2", "1"])))
    assert found.keeper.tolist() == [0, 1, 0, 3]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sha256": ["a"]}, "sha256 has 1 rows, ids has 2"),
        ({"phash": ["12", None]}, r"phash\[0\] is '12'; it must be 16 hexadecimal digits"),
        ({"phash": [None, "g" * 16]}, r"phash\[1\]"),
        ({"embeddings": np.ones((2, 8), np.int8)}, "must be floats"),
        ({"embeddings": np.ones(2)}, "must be floats of shape"),
        ({"max_hamming": 17}, "max_hamming is 17"),
        ({"min_cosine": 95}, "min_cosine is 95"),
        ({"clip_max_hamming": 65}, "clip_max_hamming is 65"),
        ({"slack": -1}, "slack is -1"),
    ],
)
def test_what_cannot_be_meant_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        find(**rows(2, **given))
