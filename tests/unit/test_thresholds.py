"""Numbers and quantiles as thresholds, and proposing one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from surd.stages.filter.thresholds import Cosine, Threshold, resolve, suggest

COSINE = TypeAdapter(Cosine)
THRESHOLD = TypeAdapter(Threshold)


@pytest.mark.parametrize(
    ("given", "read"),
    [
        (0.28, 0.28),
        ("0.28", 0.28),
        (-1, -1.0),
        ("p30", "p30"),
        (" P2.5 ", "p2.5"),
        ("Auto", "auto"),
    ],
)
def test_a_cosine_is_a_number_a_quantile_or_auto(given, read):
    assert COSINE.validate_python(given) == read


@pytest.mark.parametrize(
    "given", [1.01, "-2", "p101", "p", "high", "nan", float("inf"), True, None]
)
def test_anything_else_is_refused(given):
    with pytest.raises(ValidationError, match=r"cosine|quantile"):
        COSINE.validate_python(given)


def test_other_scores_may_be_any_number():
    assert THRESHOLD.validate_python("5.5") == 5.5


def test_a_quantile_is_of_the_values_there_are():
    values = np.array([np.nan, 1, 2, 3, 4, 5])
    assert resolve("p50", values).number == 3
    assert resolve(0.2, values).number == 0.2
    assert np.isnan(resolve("p50", np.array([np.nan])).number)


def heaps(low: int, high: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.r_[rng.normal(0.15, 0.01, low), rng.normal(0.35, 0.01, high), np.nan]


def test_auto_cuts_between_two_clear_peaks_whatever_the_order():
    values = heaps(20, 180)
    chosen = resolve("auto", values)
    assert (
        0.19 < chosen.number < 0.31 and chosen.why == "auto: between two clear peaks of the scores"
    )
    assert resolve("auto", np.random.default_rng(1).permutation(values)) == chosen


@pytest.mark.parametrize(
    ("values", "why"),
    [
        (heaps(0, 400), "no two clear peaks"),
        (heaps(10, 80), "too few scores"),
        (heaps(180, 120), "the lower of two peaks is the larger"),
    ],
)
def test_auto_is_the_lowest_tenth_where_there_is_no_cut_to_trust(values, why):
    chosen = resolve("auto", values)
    assert chosen.why.startswith("auto: drops at most the lowest tenth, since ")
    assert why in chosen.why
    assert 0.08 < np.mean(values[:-1] < chosen.number) <= 0.1


def test_auto_drops_nothing_where_a_tenth_is_less_than_one():
    assert resolve("auto", np.arange(10.0)).number == 0
    assert np.isnan(resolve("auto", np.full(3, np.nan)).number)


@given(st.floats(0.1, 0.9), st.integers(5, 200), st.integers(5, 200))
def test_the_suggestion_lies_in_the_gap_between_two_heaps(middle, low, high):
    rng = np.random.default_rng(low * 1000 + high)
    below = rng.uniform(middle - 0.3, middle - 0.25, low)
    above = rng.uniform(middle + 0.25, middle + 0.3, high)
    assert below.max() < suggest(np.r_[below, above, np.nan]) < above.min()


@pytest.mark.parametrize(
    "values",
    [
        np.random.default_rng(0).normal(0.3, 0.05, 2000),
        np.random.default_rng(0).uniform(0, 1, 2000),
        np.array([0.5]),
        np.full(10, 0.5),
        np.full(4, np.nan),
        np.array([]),
    ],
)
def test_one_heap_or_none_gets_no_suggestion(values):
    assert suggest(values) is None
