"""Words in prompts: found by a scan, and remembered as long as nothing changes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support_publish import make_workspace, samples

from surd.dataset import words as prompt_words
from surd.store import edits
from surd.store.workspace import Workspace, part_name
from surd.view import gallery, words
from surd.view.query import Query
from surd.view.state import View


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Sample n has the prompt "red cup n", in three parts."""
    rows = samples(9, prompt=lambda n: f"red cup {n}", simple_prompt=lambda n: f"the cup {n}")
    return make_workspace(tmp_path / "w", [rows[i : i + 3] for i in range(0, 9, 3)])


@pytest.fixture
def parts_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The parts whose texts are read, from now on."""
    parts: list[int] = []
    hits = words._hits

    def watched(workspace: Workspace, part: int, *others: object) -> np.ndarray:
        parts.append(part)
        return hits(workspace, part, *others)  # type: ignore[arg-type]

    monkeypatch.setattr(words, "_hits", watched)
    return parts


def total(view: View, **query: str) -> int:
    return gallery.page(view, view.snapshot(), Query(**query)).total


def test_the_same_words_are_looked_for_once_however_they_are_sorted_or_narrowed(
    workspace: Workspace, parts_read: list[int]
) -> None:
    view = View(workspace)
    assert total(view, words="RED cup 4") == 1
    assert sorted(parts_read) == [0, 1, 2]
    for more in ({"sort": "cos_simple"}, {"show": "kept"}, {"source": "civitai"}):
        total(view, words="RED cup 4", **more)
    assert len(parts_read) == 3
    assert total(view, words="red cup") == 9
    assert len(parts_read) == 6


def test_parts_that_nobody_asked_of_are_gone_through_once_they_are(
    workspace: Workspace, parts_read: list[int]
) -> None:
    view = View(workspace)
    now = view.snapshot()
    first = np.arange(9) < 2
    found, searched = view.words.found(now.index, now.written, "cup", "", first)
    assert searched == 1
    assert parts_read == [0] and (found & first).sum() == 2
    every, _ = view.words.found(now.index, now.written, "cup", "", np.ones(9, np.bool_))
    assert sorted(parts_read) == [0, 1, 2] and every.all()


def test_an_edit_is_found_at_once_and_what_it_replaced_no_more(
    workspace: Workspace, parts_read: list[int]
) -> None:
    view = View(workspace)
    assert total(view, words="the cup 4") == 1
    some = workspace.read("samples", 1, ["id"])["id"].to_pylist()
    edits.write(workspace, {some[1]: "a green box"}, "by hand")
    parts_read.clear()
    assert total(view, words="the cup 4") == 0
    assert parts_read == [1]
    assert total(view, words="green box") == 1
    edits.undo(workspace, [some[1]])
    assert total(view, words="green box") == 0


def test_the_last_searches_are_remembered(workspace: Workspace, parts_read: list[int]) -> None:
    view = View(workspace)
    for n in range(words._REMEMBERED + 1):
        total(view, words=f"cup {n}")
    read = len(parts_read)
    total(view, words=f"cup {words._REMEMBERED}")
    assert len(parts_read) == read
    total(view, words="cup 0")
    assert len(parts_read) == read + 3


def test_a_page_shows_what_is_found_in_time_and_the_next_look_goes_on(
    workspace: Workspace, parts_read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "PATIENCE_S", 0.0)
    view = View(workspace)
    query = Query(words="the cup")
    pages = [gallery.page(view, view.snapshot(), query) for _ in range(3)]
    assert [(page.total, page.searched) for page in pages] == [(3, 1 / 3), (6, 2 / 3), (9, 1.0)]
    assert parts_read == [0, 1, 2]
    other = Query(words="cup", show="kept")
    assert gallery.search_on(view, view.snapshot(), other)["searched"] == 1 / 3


def test_a_build_in_progress_does_not_begin_a_search_anew(
    workspace: Workspace, parts_read: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "PATIENCE_S", 0.0)
    view = View(workspace)
    query = Query(words="cup")
    clip = [Path(workspace.location, part_name("clip", part)) for part in range(3)]
    shares = []
    for file in clip:
        os.utime(file)  # as a part that is written anew
        shares.append(gallery.search_on(view, view.snapshot(), query)["searched"])
    assert shares == [1 / 3, 2 / 3, 1.0]
    os.utime(clip[1])
    gallery.search_on(view, view.snapshot(), query)
    assert parts_read == [0, 1, 2, 1]


def test_a_part_that_grows_is_gone_through_again(
    workspace: Workspace, parts_read: list[int]
) -> None:
    view = View(workspace)
    before = view.snapshot()
    assert total(view, words="red") == 9
    rows = samples(12, prompt=lambda n: f"red cup {n}")
    make_workspace(Path(workspace.location), [rows[:3], rows[3:6], rows[6:]])
    assert total(view, words="red") == 12
    assert parts_read[-3:] == [0, 1, 2]  # each was written anew
    assert gallery.page(view, before, Query(words="red")).total == 9


def test_many_searches_at_once_all_come_to_their_end(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "PATIENCE_S", 0.0)
    view = View(workspace)
    queries = [Query(words=f"cup {n}") for n in range(20)]
    for _ in range(3):
        shares = [gallery.search_on(view, view.snapshot(), query)["searched"] for query in queries]
    assert set(shares) == {1.0}


def test_whoever_acts_on_all_that_is_found_waits_for_all(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "PATIENCE_S", 0.0)
    view = View(workspace)
    query = Query(words="cup")
    assert gallery.page(view, view.snapshot(), query).total == 3
    assert len(gallery.found(view, view.snapshot(), query)) == 9


def test_the_nearest_are_no_more_than_a_page_would_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gallery, "MOST_NEAREST", 2)
    rows = [row | {"image_embedding": [1.0, 0.0]} for row in samples(9, prompt="red cup")]
    view = View(make_workspace(tmp_path / "w", [rows]))
    query = Query(words="cup", like=rows[0]["id"])
    found = gallery.page(view, view.snapshot(), query)
    assert found.total == gallery.search_on(view, view.snapshot(), query)["found"] == 2


def test_a_search_among_nobody_has_come_to_its_end(workspace: Workspace) -> None:
    view = View(workspace)
    found = gallery.page(view, view.snapshot(), Query(words="cup", reason="max_aspect"))
    assert (found.total, found.searched) == (0, 1.0)


@pytest.mark.parametrize("words", ["cup zebra", "zebra cup"])
def test_the_rarest_word_is_looked_for_first_where_there_are_simple_prompts_alone(
    monkeypatch: pytest.MonkeyPatch, words: str
) -> None:
    nothing = pa.chunked_array([pa.nulls(1000, pa.string())])
    simple = pa.chunked_array([["a zebra", *["a cup"] * 999]])
    texts_read: list[int] = []
    has_text = prompt_words.has_text

    def counted(column: pa.ChunkedArray, text: str) -> np.ndarray:
        texts_read.append(len(column))
        return has_text(column, text)

    monkeypatch.setattr(prompt_words, "has_text", counted)
    table = pa.table({"prompt": nothing, "path": nothing, "source_id": nothing})
    found = prompt_words.have_words(table, simple, words, np.ones(1000, np.bool_))
    assert not found.any()
    assert sum(texts_read) < 3 * 1000 + 3 * 2 * 200 + 10
