"""The parts of the search for duplicates: nothing is missed that is said not to be."""

from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surd.stages.dedup import cells, cosine, hamming
from surd.stages.dedup.find import find
from surd.stages.dedup.neighbours import Neighbours
from surd.stages.dedup.stars import stars

MIN_COSINE = 0.95


def pairs_within(values: np.ndarray, distance: int) -> set[tuple[int, int]]:
    apart = hamming.popcount(values[:, None] ^ values[None, :])
    a, b = np.nonzero(np.triu(apart <= distance, 1))
    return set(zip(a.tolist(), b.tolist(), strict=True))


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 16), st.integers(0, 400))
def test_no_near_hash_is_missed_or_said_twice(seed, distance, n):
    rng = np.random.default_rng(seed)
    values = rng.integers(0, 2**64, n, dtype=np.uint64)
    near = values.copy()
    for _ in range(rng.integers(0, 8)):
        near ^= np.uint64(1) << rng.integers(0, 64, n, dtype=np.uint64)
    values = np.unique(np.concatenate([values, near]))
    found = [
        (min(pair), max(pair))
        for a, b in hamming.near_pairs(values, distance)
        for pair in zip(a.tolist(), b.tolist(), strict=True)
    ]
    assert len(found) == len(set(found))
    assert set(found) == pairs_within(values, distance)


def test_bands_that_very_many_share_are_cut_again():
    counting = np.arange(6_000, dtype=np.uint64)  # equal in all but 13 of 64 bits
    found = {
        (min(pair), max(pair))
        for a, b in hamming.near_pairs(counting, 2)
        for pair in zip(a.tolist(), b.tolist(), strict=True)
    }
    assert found == pairs_within(counting, 2)


def test_both_ways_of_counting_ones_agree():
    values = np.random.default_rng(0).integers(0, 2**64, 1_000, dtype=np.uint64)
    ones = [int(value).bit_count() for value in values]
    assert hamming.popcount(values).tolist() == ones
    assert hamming._popcount_by_halves(values).tolist() == ones


@settings(max_examples=100)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.floats(0, 1), st.integers(1, 4))
def test_stars_do_not_depend_on_how_many_neighbours_are_remembered(seed, n, share, length):
    rng = np.random.default_rng(seed)
    match = np.triu(rng.random((n, n)) < share, 1)
    match |= match.T

    def search(asking, alive, found):
        a, b = np.nonzero(match & asking[:, None] & alive)
        shuffled = rng.permutation(a.size)
        for part in np.array_split(shuffled, 3):
            found.add(a[part], b[part])

    expected: list[int] = []
    for image in range(n):
        kept = [other for other in range(image) if expected[other] == other]
        expected.append(next((other for other in kept if match[image, other]), image))
    assert stars(n, [search], length=length).tolist() == expected


def test_short_lists_hold_the_best_neighbours_and_say_what_they_do_not_hold():
    found = Neighbours(10, length=2)
    for other in (5, 1, 7, 3):
        found.add(np.array([9]), np.array([other]))
        found.lists()
    worse, better = found.lists()
    assert worse.tolist() == [9, 9]
    assert better.tolist() == [1, 3]
    assert found.bound[9] == 5
    assert not found.complete()[9]
    assert found.complete()[:9].all()


def planted(n: int, d: int, seed: int) -> tuple[np.ndarray, int]:
    """Embeddings ``[n, d]`` float16 around topics, a tenth of them near-duplicates of others."""
    rng = np.random.default_rng(seed)
    spectrum = np.arange(1, d + 1) ** -0.5
    topics = rng.standard_normal((n // 100, d)) * spectrum
    rows = topics[rng.integers(len(topics), size=n)]
    rows = rows + 0.7 * rng.standard_normal((n, d)) * spectrum + 2 * spectrum
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    copies = n // 10
    noise = rng.standard_normal((copies, d)) * spectrum
    originals = rows[copies : 2 * copies]
    noise -= np.sum(noise * originals, axis=1, keepdims=True) * originals
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    cosines = rng.uniform(MIN_COSINE, 1, (copies, 1))
    rows[:copies] = cosines * originals + np.sqrt(1 - cosines**2) * noise
    return rows.astype(np.float16), copies


def found_pairs(rows: np.ndarray, slack: float) -> set[tuple[int, int]]:
    n = len(rows)
    numbers = np.arange(n)
    reach = cosine.reach_for(MIN_COSINE, slack)
    made = cells.make_cells(numbers, partial(cosine.read_units, rows), reach, seed=0)
    found = Neighbours(n, length=n)
    everyone = np.ones(n, bool)
    cosine.search(rows, numbers, made, MIN_COSINE, None, everyone, everyone, found)
    return set(zip(*(side.tolist() for side in found.lists()), strict=True))


def all_pairs(rows: np.ndarray) -> set[tuple[int, int]]:
    units = cosine.read_units(rows, np.arange(len(rows)))
    pairs: set[tuple[int, int]] = set()
    for begin in range(0, len(rows), 1_000):
        a, b = np.nonzero(units[begin : begin + 1_000] @ units.T >= MIN_COSINE)
        pairs |= {(i, j) for i, j in zip((a + begin).tolist(), b.tolist(), strict=True) if i > j}
    return pairs


def test_99_percent_of_near_embeddings_are_found_among_20000():
    rows, copies = planted(20_000, 64, seed=3)
    right = all_pairs(rows)
    found = found_pairs(rows, cosine.SLACK)
    assert len(right) > 0.9 * copies
    assert len(found & right) >= 0.99 * len(right)
    assert len(found - right) <= 1e-3 * len(right)  # at the threshold, by rounding


def test_closer_pairs_than_the_slack_are_all_found():
    rows, _ = planted(4_000, 32, seed=4)
    units = cosine.read_units(rows, np.arange(len(rows)))
    for slack in (0.25, 0.5):
        sure = 1 - slack**2 * (1 - MIN_COSINE)
        a, b = np.nonzero(np.tril(units @ units.T > sure + 1e-5, -1))
        assert a.size
        assert set(zip(a.tolist(), b.tolist(), strict=True)) <= found_pairs(rows, slack)


@pytest.mark.parametrize("dtype", [np.float16, np.float32])
def test_the_same_rows_give_the_same_result_from_a_memory_map_in_any_order(tmp_path, dtype):
    rows, _ = planted(5_000, 32, seed=5)
    n = len(rows)
    stored = np.memmap(tmp_path / "rows", dtype, "w+", shape=rows.shape)
    stored[:] = rows
    ids = [f"{i:05}" for i in range(n)]
    quality = np.arange(n) % 7
    first = find([None] * n, None, rows, quality, ids)
    again = find([None] * n, None, stored, quality, ids)
    assert 0 < (~first.kept).sum() < n
    for name in ("keeper", "kind", "similarity", "size"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
    shuffled = np.random.default_rng(6).permutation(n)
    moved = find([None] * n, None, rows[shuffled], quality[shuffled], [ids[i] for i in shuffled])
    np.testing.assert_array_equal(shuffled[moved.keeper], first.keeper[shuffled])
