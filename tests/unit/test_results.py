"""How an evaluation tells its numbers."""

from __future__ import annotations

import pytest

from surd.evaluate.results import Row, few_scenes, interval, table_of
from surd.evaluate.significance import Estimate


@pytest.mark.parametrize(
    ("ends", "share", "told"),
    [
        ((0.21, 0.155, 0.265), True, "+21.0 (+15.5 to +26.5)"),
        ((-0.0001, -0.0004, 0.03), True, "+0.0 (+0.0 to +3.0)"),
        ((-0.000313, -0.000633, 6.48e-06), False, "-0.00031 (-0.00063 to +0.00001)"),
        ((12.345, 7.1, 17.6), False, "+12 (+7 to +18)"),
        ((0.01234, 0.0061, 0.0183), False, "+0.012 (+0.006 to +0.018)"),
        ((0.0, 0.0, 0.0), False, "0"),
        ((1234.5, None, None), False, "+1234 (one scene: no interval)"),
        ((0.0, None, None), False, "+0.0 (one scene: no interval)"),
        ((0.01234, None, None), False, "+0.0123 (one scene: no interval)"),
    ],
)
def test_a_difference_has_as_many_digits_as_its_interval_bears_out(
    ends: tuple[float, ...], share: bool, told: str
) -> None:
    assert interval(Estimate(*ends), share) == told


def test_where_both_sides_are_equal_there_is_no_difference() -> None:
    half, none = Estimate(0.5, 0.4, 0.6), Estimate(0.0, 0.0, 0.0)
    assert Row("demo", "right", 8, half, half, none, p=1.0).verdict == "no difference"
    assert Row("demo", "right", 8, half, half, Estimate(0.0, -0.1, 0.1)).verdict == "may be chance"


def test_intervals_of_few_scenes_are_told_to_mean_little() -> None:
    one = Estimate(0.5, 0.4, 0.6)

    def row(prompts: str, scenes: int | None) -> Row:
        return Row(prompts, "right", 8, one, one, one, p=0.5, scenes=scenes)

    assert few_scenes([row("many", 20), row("old", None)]) is None
    told = few_scenes([row("a", 3), row("a", 9), row("a", 40), row("b", 1), row("many", 20)])
    assert told is not None and told.endswith("mean little: a (3 to 9 scenes), b (1 scene).")
    assert "mean little: a (3 scenes)." in table_of([row("a", 3)])
    assert "mean little" not in table_of([row("a", 20)])
