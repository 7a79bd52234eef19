"""The viewer's map: places by principal components, kept in a file, and what a line encloses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support_publish import make_workspace, sample, samples

from surd.build.clean import find
from surd.errors import SurdError
from surd.store.workspace import Workspace
from surd.view import map as mapping
from surd.view.gallery import page, points
from surd.view.index import load
from surd.view.query import Query, QueryError, parse
from surd.view.state import View


def embedded(count: int, start: int = 0) -> list[dict]:
    """Samples along a curve of eight dimensions; the last one has no embedding."""
    rows = samples(count, start)
    for number, row in enumerate(rows):
        angle = (start + number) / 10
        vector = np.array([np.cos(angle), np.sin(angle), 0.1 * np.sin(3 * angle), *[0.0] * 5])
        row["image_embedding"] = list(vector / np.linalg.norm(vector))
    rows[-1]["image_embedding"] = None
    return rows


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "w", [embedded(20), embedded(20, 20)])


def places(workspace: Workspace) -> mapping.Places:
    return mapping.load(workspace, load(workspace))


def test_axes_are_those_along_which_embeddings_differ_most() -> None:
    random = np.random.default_rng(0)
    scales = np.array([0.1, 3, 0.1, 1], np.float32)
    sample_ = random.normal(size=(500, 4)).astype(np.float32) * scales + 5
    mean, axes = mapping.axes_of(sample_)
    assert mean == pytest.approx(np.full(4, 5), abs=0.5)
    assert np.abs(axes.T) == pytest.approx(np.eye(4)[[1, 3]], abs=0.1)
    assert np.array_equal(axes, mapping.axes_of(sample_)[1])


@pytest.mark.parametrize("shape", [(1, 4), (3, 1)])
def test_one_embedding_or_one_dimension_has_axes_too(shape: tuple[int, int]) -> None:
    assert mapping.axes_of(np.ones(shape, np.float32))[1].shape == (shape[1], 2)


def test_neighbours_in_the_embeddings_are_neighbours_on_the_map(workspace: Workspace) -> None:
    found = places(workspace)
    assert np.flatnonzero(np.isnan(found[:, 0])).tolist() == [19, 39]
    there = found[~np.isnan(found[:, 0])]
    assert there.min() >= 0 and there.max() <= mapping.SCALE
    steps = np.linalg.norm(np.diff(there, axis=0), axis=1)
    assert steps.max() < 0.25 * np.linalg.norm(np.ptp(there, axis=0))


def test_an_embedding_that_is_no_number_loses_its_own_place_alone(tmp_path: Path) -> None:
    rows = embedded(20)
    rows[3]["image_embedding"] = [float("nan"), *[0.0] * 7]
    found = places(make_workspace(tmp_path / "w", [rows]))
    assert np.flatnonzero(np.isnan(found[:, 0])).tolist() == [3, 19]


def test_embeddings_of_two_models_are_a_line_that_names_the_mend(tmp_path: Path) -> None:
    rows = embedded(20)
    for row in rows[:-1]:
        row["image_embedding"] = [1.0, 0.0]
    with pytest.raises(SurdError, match=r"CLIP model with 2 dimensions, .* 8; run: surd score"):
        places(make_workspace(tmp_path / "w", [embedded(20), rows]))


def test_a_map_is_computed_once(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    first = places(workspace)
    monkeypatch.setattr(mapping, "_compute", lambda *_: pytest.fail("computed again"))
    assert np.array_equal(places(workspace), first, equal_nan=True)


@pytest.mark.parametrize("content", [b"", b"PAR1 no table", None])
def test_a_map_that_is_broken_or_of_other_embeddings_is_computed_again(
    workspace: Workspace, tmp_path: Path, content: bytes | None
) -> None:
    expected = places(workspace)
    if content is None:
        other = make_workspace(tmp_path / "other", [embedded(9)])
        places(other)
        content = other.storage.read_bytes(mapping.FILE)
    workspace.storage.write_bytes(mapping.FILE, content)
    assert np.array_equal(places(workspace), expected, equal_nan=True)


def test_a_map_needs_no_right_to_write(workspace: Workspace) -> None:
    Path(workspace.location, "view").write_text("in the way")
    assert not np.isnan(places(workspace)[0]).any()


def test_a_workspace_without_embeddings_has_an_empty_map(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "w", [samples(3)], without=["clip", "verdicts"])
    assert np.isnan(places(workspace)).all()
    view = View(workspace)
    assert points(view, view.snapshot(), Query())["total"] == 0


def test_the_even_odd_rule_decides_what_is_inside() -> None:
    notched = np.array([[0, 0], [10, 0], [10, 10], [5, 4], [0, 10]], np.float32)
    some = np.array([[1, 1], [5, 3], [5, 8], [9, 8], [11, 1], [np.nan, np.nan]], np.float32)
    assert mapping.inside(notched, some).tolist() == [True, True, False, True, False, False]


def test_a_line_along_the_border_encloses_what_lies_on_it() -> None:
    border = np.array([[0, 0], [9999, 0], [9999, 9999], [0, 9999]], np.float32)
    on_it = np.array([[0, 0], [9999, 5], [5, 9999], [9999, 9999], [0, 7]], np.float32)
    assert mapping.inside(border, on_it).all()


def test_a_line_on_the_map_is_a_filter_like_others(workspace: Workspace) -> None:
    view = View(workspace)
    now = view.snapshot()
    found = view.map(now.index)
    x, y = (int(value) for value in found[3])
    query = Query(lasso=f"{x - 1}.{y - 1}.{x + 1}.{y - 1}.{x}.{y + 2}")
    assert [card.id for card in page(view, now, query).cards] == [sample(3)["id"]]
    assert points(view, now, query)["ids"] == [sample(3)["id"]]
    assert page(view, now, Query(lasso=query.lasso, show="dropped")).total == 0


def test_of_many_images_the_map_shows_some_and_counts_all(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("surd.view.gallery.MOST_POINTS", 7)
    view = View(workspace)
    found = points(view, view.snapshot(), Query())
    assert found["total"] == 38 and len(set(found["ids"])) == len(found["x"]) == 7


@pytest.mark.parametrize(
    "lasso", ["1.2.3.4", "1.2.3.4.5", "1.2.3.4.5.66666", "a.b.c.d.e.f", "٣.1.1.1.1.1"]
)
def test_an_address_with_another_lasso_is_refused(lasso: str) -> None:
    with pytest.raises(QueryError, match=r"^lasso: .* is not a line drawn on the map"):
        parse([("lasso", lasso)])
    assert parse([("lasso", "1.2.3.4.5.6")]).polygon.tolist() == [[1, 2], [3, 4], [5, 6]]


def test_the_map_can_be_cleaned_away(workspace: Workspace) -> None:
    places(workspace)
    assert {one.what: one.files for one in find(workspace)}["map of surd view"] == (mapping.FILE,)
