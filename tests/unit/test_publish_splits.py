"""Splits: what is alike stays together, and everything stays where it was as far as it can."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support_publish import dropped, make_workspace, samples

from surd.dataset.publish.run import publish
from surd.dataset.publish.split import assign, first_of_group, normalized, split_of
from surd.recipe.publish import PublishParams

HALVES = PublishParams(validation=0, test=0.5)


def splits(
    tmp_path: Path, *parts: list[dict[str, Any]], without: tuple[str, ...] = ()
) -> list[str]:
    workspace = make_workspace(tmp_path, parts, without=without)
    groups = [group for group in ("prompts", "duplicates") if group not in without]
    found = assign(workspace, range(len(parts)), groups, HALVES)
    return [name for part in range(len(parts)) for name in found[part].to_pylist()]


def test_equal_prompts_are_in_the_split_of_the_first_of_them(tmp_path: Path) -> None:
    alone = [split_of(row["id"], HALVES) for row in samples(40)]
    alike = samples(20, 20, complex_prompt=lambda n: f"Masterpiece; red  CUP, {n % 20}")
    assert splits(tmp_path / "w", samples(20), alike) == alone[:20] * 2
    assert alone[:20] != alone[20:]
    other = splits(tmp_path / "o", samples(20), samples(20, 20), without=("duplicates",))
    assert other == alone, "whatever is alone stays where it was"


def test_what_near_duplicates_and_equal_prompts_join_is_in_one_split(tmp_path: Path) -> None:
    rows = samples(40)
    for n in range(1, 40):
        if n % 2:
            rows[n]["cluster"] = rows[n - 1]["cluster"]
        else:
            rows[n]["complex_prompt"] = rows[n - 1]["complex_prompt"]
    assert set(splits(tmp_path, rows)) == {split_of(rows[0]["cluster"], HALVES)}


def test_samples_without_a_prompt_are_not_equal(tmp_path: Path) -> None:
    rows = samples(20, complex_prompt=None)
    assert splits(tmp_path, rows) == [split_of(row["id"], HALVES) for row in rows]


def test_verdicts_change_no_split(tmp_path: Path) -> None:
    rows = samples(40, complex_prompt=lambda n: f"a red cup {n % 10}")
    worse = [
        row | dropped(n, "nsfw") | {"complex_prompt": row["complex_prompt"]}
        for n, row in enumerate(rows[:10])
    ]
    before, after = (
        {row["id"]: row["split"] for row in published(tmp_path / name, some)}
        for name, some in (("all", rows), ("less", [*worse, *rows[10:]]))
    )
    assert len(after) == 30 and after.items() <= before.items()


def published(folder: Path, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    publish(make_workspace(folder, [rows[:15], rows[15:]]), HALVES)
    return [
        row | {"split": path.name.split("-")[0]}
        for path in (folder / "dataset").glob("*.parquet")
        for row in pq.read_table(path).to_pylist()
    ]


@pytest.mark.parametrize(
    ("prompt", "same"),
    [("A  red_cup,", "a red cup"), ("\uff32ed CUP!", "red cup"), ("(^_^)", "(^_^)"), ("Äh", "äh")],
)
def test_prompts_are_equal_if_their_words_are(prompt: str, same: str) -> None:
    assert normalized(prompt) == same


@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=12))
def test_the_first_of_a_group_is_the_first_row_that_joins_lead_to(
    rows: list[tuple[int, int]],
) -> None:
    found = first_of_group(*(np.array(key, np.uint64) for key in zip(*rows, strict=True)))
    for row in range(len(rows)):
        joined = {row}
        while (
            more := {
                i
                for i, (a, b) in enumerate(rows)
                for j in joined
                if a == rows[j][0] or b == rows[j][1]
            }
            - joined
        ):
            joined |= more
        assert found[row] == min(joined)
