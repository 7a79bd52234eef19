"""Intervals that hold what they promise, and the exact paired test."""

from __future__ import annotations

import numpy as np
import pytest

from surd.evaluate.significance import difference, mean_of, sign_flip


def test_the_interval_holds_the_truth_about_95_times_in_100() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        chance = rng.beta(2, 2, size=(100, 1))  # prompts differ; their pictures are alike
        found = mean_of((rng.random((100, 4)) < chance).astype(float))
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
    floats = base.astype(float)
    same = difference(floats, floats)
    assert (same.value, same.low, same.high) == (0, 0, 0)


def test_what_never_changed_has_the_bound_of_what_was_not_seen() -> None:
    same = np.zeros((200, 4), bool)
    found = difference(same, same)
    assert (found.value, found.low, found.high) == (0, pytest.approx(-0.015, abs=2e-4), -found.low)
    right = mean_of(np.ones((200, 1), bool))
    assert (right.value, right.low, right.high) == (1, pytest.approx(0.985, abs=2e-4), 1)


def test_prompts_of_one_scene_count_as_one() -> None:
    rng = np.random.default_rng(2)
    new, base = (rng.random((40, 2)) < chance for chance in (0.7, 0.4))
    scenes = [f"scene {number}" for number in range(40)]
    once = difference(new, base, scenes)
    assert once == difference(new, base)
    often = difference(np.repeat(new, 5, axis=0), np.repeat(base, 5, axis=0), 5 * scenes)
    again = [scene for scene in scenes for _ in range(5)]
    same = difference(np.repeat(new, 5, axis=0), np.repeat(base, 5, axis=0), again)
    assert same.high - same.low == pytest.approx(once.high - once.low, rel=0.05)
    assert often.value == same.value
    repeated = np.repeat(new, 5, axis=0), np.repeat(base, 5, axis=0), again
    assert sign_flip(*repeated) == pytest.approx(sign_flip(new, base), rel=0.3)


@pytest.mark.parametrize(
    ("differences", "p"),
    [([0, 0, 0], 1.0), ([1, 1, 1, 1, 1, 1], 2 / 64), ([1] * 10 + [-1] * 2, 158 / 4096),
     ([3, -1, 2], 2 * 2 / 8)],
)  # fmt: skip
def test_the_sign_flip_test_is_exact_for_few_scenes(differences: list[float], p: float) -> None:
    """Of signs alike in size it is the sign test: 158 of 4,096 are as far out as 10 of 12."""
    new = np.array(differences, float)[:, None]
    assert sign_flip(new, np.zeros_like(new)) == pytest.approx(p)


def test_where_nothing_differs_five_in_a_hundred_tests_say_so() -> None:
    rng = np.random.default_rng(3)
    said = 0
    for _ in range(200):
        chance = rng.beta(2, 2, size=(60, 1))
        new, base = (rng.random((60, 4)) < chance for _ in range(2))
        said += sign_flip(new, base) <= 0.05
    assert 2 <= said <= 20
