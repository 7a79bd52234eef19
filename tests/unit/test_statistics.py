"""Intervals that hold what they promise, and the exact paired test."""

from __future__ import annotations

import numpy as np
import pytest

from surd.evaluate.significance import difference, mcnemar, mean_of


def test_the_interval_holds_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        chance = rng.beta(2, 2, size=(100, 1))  # prompts differ; their pictures are alike
        found = mean_of((rng.random((100, 4)) < chance).astype(float), seed=trial)
        held += found.low <= 0.5 <= found.high
    assert 180 <= held <= 198


def test_pictures_of_one_prompt_do_not_count_as_many() -> None:
    rng = np.random.default_rng(1)
    outcomes = (rng.random((60, 1)) < 0.5).astype(float)
    once, often = mean_of(outcomes), mean_of(np.repeat(outcomes, 20, axis=1))
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=1e-6)


def test_a_difference_is_of_pairs() -> None:
    base = np.array([[0, 1], [0, 0], [1, 1]], bool)
    new = np.array([[1, 1], [0, 1], [1, 1]], bool)
    found = difference(new, base)
    assert found.value == pytest.approx(2 / 6)
    assert found.low <= found.value <= found.high
    same = difference(base, base)
    assert (same.value, same.low, same.high) == (0, 0, 0)


@pytest.mark.parametrize(
    ("better", "worse", "p"), [(0, 0, 1.0), (5, 5, 1.0), (6, 0, 0.03125), (10, 2, 0.038574)]
)
def test_mcnemar_is_exact(better: int, worse: int, p: float) -> None:
    new = np.array([True] * better + [False] * worse + [True, False])
    base = np.array([False] * better + [True] * worse + [True, False])
    assert mcnemar(new, base) == pytest.approx(p, rel=1e-4)
