"""Variants of an ablation: pooled over their trainings, and compared with each other in pairs."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from surd.errors import SurdError
from surd.evaluate.measures import Measured, row_of
from surd.evaluate.run import Options
from surd.training.ablation import ablate, compared, pooled
from surd.training.ablation_table import Ablated, Ablation, Pair, ablation_table

SCENES = [f"scene {n}" for n in range(200)]


def right(share: float, *, seeds: int = 2) -> Any:
    """Outcomes ``[200, seeds]``: the first of the prompts are right."""
    return np.repeat((np.arange(200) < 200 * share)[:, None], seeds, axis=1)


def measured(adapter: Any, base: Any = None, **more: Any) -> Measured:
    sides = {"base": right(0.4) if base is None else base, "adapter": adapter, **more}
    return Measured("demo:plain", "all right", sides, SCENES)


def test_variants_are_compared_on_the_same_pictures() -> None:
    (row,) = compared([measured(right(0.6))], [measured(right(0.5))])
    assert (row.base.value, row.adapter.value) == (0.5, 0.6)
    assert row.difference.value == pytest.approx(0.1)
    assert row.difference.low is not None and 0.05 < row.difference.low < 0.1
    assert (row.p or 1) < 0.001, "of 200 scenes 20 differ, all one way"


def test_where_nothing_changed_the_bound_is_that_of_what_was_not_seen() -> None:
    (row,) = compared([measured(right(0.6))], [measured(right(0.6))])
    assert row.difference.value == 0 and row.p == 1
    assert row.difference.high == pytest.approx(0.0149, abs=1e-4)
    assert row.difference.low == pytest.approx(-0.0149, abs=1e-4)


def test_trainings_are_measured_together_and_keep_their_pairs() -> None:
    (both,) = pooled([[measured(right(0.6))], [measured(right(0.8))]])
    assert both.values["adapter"].shape == both.values["base"].shape == (200, 4)
    row = row_of(both)
    assert (row.base.value, row.adapter.value) == (0.4, pytest.approx(0.7))
    assert row.pictures == 800 and row.is_share
    alone = row_of(measured(right(0.6)))
    assert row.base == alone.base, "repeating the base model's pictures makes nothing surer"


def test_a_value_that_is_missing_is_missing_in_both() -> None:
    scores = np.arange(400.0).reshape(200, 2)
    gaps = scores.copy()
    gaps[0, 0] = np.nan
    (row,) = compared([measured(scores, scores)], [measured(gaps, scores)])
    assert row.pictures == 398 and row.difference.value == 0


def test_a_measure_that_one_of_them_lacks_is_not_compared() -> None:
    other = Measured("mine", "VQAScore", {"base": np.ones((200, 2)), "adapter": np.ones((200, 2))},
                     SCENES)  # fmt: skip
    gone = np.full((200, 2), np.nan)
    both = [measured(right(0.6)), other]
    assert [one.measure for one in pooled([both, both[:1]])] == ["all right"]
    assert [row.measure for row in compared(both, both[1:])] == ["VQAScore"]
    assert not compared([measured(gone, gone)], [measured(right(0.6))])


def test_options_are_looked_at_before_anything_is_trained(tmp_path: Path) -> None:
    recipe: Any = SimpleNamespace(train_adapter=None)
    for options in (
        Options(prompts=("no-such-set",)),
        Options(baselines=("rewritten",)),
        Options(rewriter="x"),
        Options(vqa="openai:nowhere#m"),
        Options(first_seed=2**63),
    ):
        with pytest.raises(SurdError):
            ablate(str(tmp_path), recipe, {}, options)


def ablation(trainings: int) -> Ablation:
    runs = {
        name: [[measured(right(share + 0.1 * n), rewrite=right(0.3))] for n in range(trainings)]
        for name, share in (("a", 0.5), ("b", 0.6), ("c", 0.7))
    }
    together = {name: pooled(some) for name, some in runs.items()}
    variants = [
        Ablated(
            name,
            {},
            [row_of(one) for one in together[name]],
            {seed: [row_of(one) for one in run] for seed, run in enumerate(some)},
        )
        for name, some in runs.items()
    ]
    pairs = [
        Pair(name, other, row)
        for name, other in (("b", "a"), ("c", "a"), ("c", "b"))
        for row in compared(together[name], together[other])
    ]
    return Ablation(variants, pairs)


def test_the_tables_show_each_variant_its_spread_and_every_two_of_them() -> None:
    lines = ablation_table(ablation(2)).splitlines()
    rows = [line for line in lines if line.startswith("| ")]
    assert rows[1] == "| none | 40.0% |"
    assert rows[2].startswith("| rewrite | 30.0%, -10.0 (")
    assert rows[3].startswith("| a | 55.0% [50.0% to 60.0%], +15.0 (")
    assert rows[6] == "| | a | b |"
    assert rows[7].startswith("| b | +10.0 (") and rows[7].endswith(" |  |")
    assert rows[8].count(", p ") == 2
    assert any("trained 2 times" in line for line in lines)


def test_a_single_training_has_no_spread_and_a_single_variant_no_pairs() -> None:
    alone = ablation(1)
    table = ablation_table(Ablation(alone.variants[:1], []))
    assert "[" not in table and "minus" not in table and "trained" not in table


def test_json_has_the_differences_of_every_two() -> None:
    found = ablation(2).as_json()
    assert [(one["adapter"], one["compared_with"]) for one in found["differences"]] == [
        ("b", "a"),
        ("c", "a"),
        ("c", "b"),
    ]
    first = found["differences"][0]
    assert first["difference"]["value"] == pytest.approx(0.1) and first["p"] < 0.001
    assert first["is_share"] and first["measure"] == "all right"
    assert set(found["variants"][0]["trainings"]) == {0, 1}
