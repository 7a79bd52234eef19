"""Only a page's worth of samples is sorted, and that is the page of a whole sort."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from surd.view.gallery import _sorted
from surd.view.query import Query


@pytest.mark.parametrize("order", ["up", "down"])
@pytest.mark.parametrize("count", [0, 1, 60, 299, 300])
def test_the_first_of_a_sort_are_those_of_all(order: str, count: int) -> None:
    rng = np.random.default_rng(0)
    scores = rng.integers(0, 9, 400).astype(np.float32)  # many are equal
    scores[rng.permutation(400)[:90]] = np.nan
    positions = np.sort(rng.permutation(400)[:300])
    now: Any = SimpleNamespace(index=SimpleNamespace(scores={"aesthetic": scores}))
    found, numbers = _sorted(now, Query(sort="aesthetic", order=order), positions, count)
    sign = 1 if order == "up" else -1
    expected = positions[np.argsort(sign * scores[positions], kind="stable")][:count]
    assert found.tolist() == expected.tolist()
    np.testing.assert_array_equal(numbers, scores[expected])
