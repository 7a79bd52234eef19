"""Nearest by CLIP: the same as from all embeddings at once, however many are held."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support_publish import make_workspace, samples

from surd.errors import SurdError
from surd.store.workspace import Workspace
from surd.view import gallery, nearest
from surd.view.index import load
from surd.view.query import Query
from surd.view.state import View

COUNT, WIDTH = 40, 8


@pytest.fixture
def vectors() -> np.ndarray:
    found = np.random.default_rng(0).normal(size=(COUNT, WIDTH))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float16)


@pytest.fixture
def workspace(tmp_path: Path, vectors: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """Embeddings in five parts with row groups of three; every seventh sample has none."""
    monkeypatch.setattr("surd.store.part_writer.ROWS", 3)
    rows = samples(COUNT, image_embedding=lambda n: None if n % 7 == 0 else vectors[n].tolist())
    return make_workspace(tmp_path / "w", [rows[i : i + 8] for i in range(0, COUNT, 8)])


@pytest.mark.parametrize("count", [2, 6])
def test_the_nearest_are_those_of_all_embeddings_in_order(
    workspace: Workspace, vectors: np.ndarray, count: int
) -> None:
    query = vectors[5].astype(np.float32)
    among = np.arange(COUNT) % 2 == 1
    found, cosines = nearest.nearest(workspace, load(workspace), query, among, count)
    every = vectors.astype(np.float32) @ query
    allowed = [n for n in range(COUNT) if n % 7 and n % 2]
    expected = sorted(allowed, key=lambda n: -every[n])[:count]
    assert found.tolist() == expected and found[0] == 5
    assert cosines == pytest.approx(every[expected])


def test_cosines_are_those_of_wide_numbers_however_small_and_none_of_what_is_no_number() -> None:
    rows = np.float16([[0.6, -0.8], [6e-8, -6e-5], [0, -0.0], [np.nan, 0], [0, -np.inf]])
    query = np.float32([0.8, 0.6])
    found = nearest._cosines(rows, query, np.empty(rows.shape, np.float32))
    assert found[:3].tolist() == (rows[:3].astype(np.float32) @ query).tolist()
    assert np.isnan(found[3:]).all()


def test_nobody_allowed_and_nobody_scored_is_nobody_found(
    workspace: Workspace, tmp_path: Path, vectors: np.ndarray
) -> None:
    query = vectors[5].astype(np.float32)
    none = np.zeros(COUNT, np.bool_)
    assert nearest.nearest(workspace, load(workspace), query, none, 6)[0].tolist() == []
    unscored = make_workspace(tmp_path / "u", [samples(2)], without=["clip"])
    every = np.ones(2, np.bool_)
    assert nearest.nearest(unscored, load(unscored), query, every, 6)[0].tolist() == []


def test_a_search_ends_with_the_viewer(workspace: Workspace) -> None:
    view = View(workspace)
    now = view.snapshot()
    assert len(gallery.like(view, now, 5, 3)) == 3
    assert gallery.page(view, now, Query(words="cup")).total == COUNT
    view.stopping.set()
    with pytest.raises(SurdError, match="stopped"):
        gallery.like(view, now, 5, 3)
    with pytest.raises(SurdError, match="stopped"):
        gallery.page(view, now, Query(words="box"))


def test_a_text_of_another_clip_is_told_so(workspace: Workspace) -> None:
    with pytest.raises(
        SurdError, match="scored by a CLIP model with 8 dimensions, but this text has 4"
    ):
        nearest.nearest(
            workspace, load(workspace), np.ones(4, np.float32), np.ones(COUNT, np.bool_), 6
        )
