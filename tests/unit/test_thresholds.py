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
    [(0.28, 0.28), ("0.28", 0.28), (-1, -1.0), ("p30", "p30"), (" P2.5 ", "p2.5")],
)
def test_a_cosine_is_a_number_or_a_quantile(given, read):
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
    assert resolve("p50", values) == 3
    assert resolve(0.2, values) == 0.2
    assert np.isnan(resolve("p50", np.array([np.nan])))


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
