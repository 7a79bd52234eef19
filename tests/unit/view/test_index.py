"""The viewer's index: small columns of all samples, and the state that follows from decisions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support_publish import dropped, make_workspace, sample, samples, write_group

from surd.store import manual
from surd.view.index import Index, load
from surd.view.sample import detail
from surd.view.state import View


def id_of(number: int) -> str:
    return str(sample(number)["id"])


@pytest.fixture
def rows() -> list[dict]:
    missing = dropped(3, "no_image", "min_side") | {"source": "folder"}
    return [*samples(2), dropped(2, "clip_threshold"), missing, dropped(4, "duplicate")]


@pytest.fixture
def index(tmp_path: Path, rows: list[dict]) -> Index:
    return load(make_workspace(tmp_path / "w", [rows[:2], rows[2:]]))


def test_a_position_is_a_row_of_a_part(index: Index) -> None:
    assert len(index) == 5
    assert [index.place(p) for p in range(5)] == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    assert index.positions(id_of(3)) == [3]
    assert index.positions(id_of(9)) == []


def test_reasons_sources_and_scores_are_held_for_each(index: Index) -> None:
    assert [index.reasons_at(p) for p in range(5)] == [
        [],
        [],
        ["clip_threshold"],
        ["no_image", "min_side"],
        ["duplicate"],
    ]
    assert [index.sources[code] for code in index.source] == ["civitai"] * 3 + ["folder", "civitai"]
    assert index.scores["cos_simple"].tolist() == pytest.approx([0.2 + n / 1000 for n in range(5)])


def test_decisions_count_at_once_but_cannot_mend_what_is_missing(index: Index) -> None:
    assert index.kept(index.hands({})).tolist() == [True, True, False, False, False]
    hands = index.hands({id_of(0): "drop", id_of(2): "keep", id_of(3): "keep", id_of(9): "keep"})
    assert hands.tolist() == [-1, 0, 1, 1, 0]
    assert index.kept(hands).tolist() == [False, True, True, False, False]


def test_what_is_not_judged_is_neither_kept_nor_dropped(tmp_path: Path) -> None:
    index = load(make_workspace(tmp_path / "w", [samples(2)], without=["verdicts", "clip"]))
    assert not index.judged.any() and not index.kept(index.hands({})).any()
    assert np.isnan(index.scores["aesthetic"]).all()


def test_a_workspace_without_samples_is_an_empty_index(tmp_path: Path) -> None:
    assert len(load(make_workspace(tmp_path / "w", []))) == 0


def test_samples_added_to_a_judged_part_are_not_judged_yet(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "w", [samples(2)])
    write_group(workspace, "samples", 0, samples(3))
    index = load(workspace)
    assert index.judged.tolist() == [True, True, False]
    assert np.isnan(index.scores["cos_simple"]).tolist() == [False, False, True]


def test_a_snapshot_sees_what_others_decided_and_judged(tmp_path: Path, rows: list[dict]) -> None:
    workspace = make_workspace(tmp_path / "w", [rows])
    view = View(workspace)
    assert view.snapshot().pending == 0
    manual.decide(workspace, id_of(1), "drop")
    now = view.snapshot()
    assert now.pending == 1 and not now.kept[1]
    by_hand = {"reason": "manual", "value": None, "threshold": None, "detail": "drop"}
    rows[1] |= {"keep": False, "reasons": [by_hand]}
    write_group(workspace, "verdicts", 0, rows)
    now = view.snapshot()
    assert now.pending == 0 and not now.kept[1]
    manual.decide(workspace, id_of(1), None)
    now = view.snapshot()
    assert now.pending == 1 and now.kept[1]


def test_a_dense_caption_that_was_written_anew_is_shown(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, [samples(2)], without=["dense"])
    view = View(workspace)
    assert detail(view, view.snapshot(), 1).dense is None
    for text in ("a red cup", "a red cup on a table"):
        write_group(workspace, "dense", 0, samples(2, dense_caption=text))
        assert detail(view, view.snapshot(), 1).dense == text
