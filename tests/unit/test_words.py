"""What is found by words, in the viewer and by surd inspect alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from support_publish import make_workspace, samples

from surd.dataset import inspect
from surd.dataset.words import SEARCHED, have_words
from surd.store.workspace import Workspace
from surd.view import gallery
from surd.view.query import Query
from surd.view.state import View

PICTURES = "/home/fred/red cats"


def found(words: str, *rows: dict[str, str | None]) -> list[int]:
    """The numbers of the rows that have the words."""
    names = (*SEARCHED, "simple")
    table = pa.table(
        {name: pa.array([row.get(name) for row in rows], pa.string()) for name in names}
    )
    hit = have_words(table, table["simple"], words, np.ones(len(rows), np.bool_))
    return np.flatnonzero(hit).tolist()


def in_folder(name: str, **more: str) -> dict[str, str | None]:
    return {"path": f"{PICTURES}/{name}", "source_id": name, **more}


def test_folders_above_the_source_are_no_words_of_its_samples() -> None:
    rows = [
        in_folder("dogs/1.png"),
        in_folder("2.png", prompt="a red cup"),
        in_folder("cats/3.png"),
    ]
    assert found("red", *rows) == [1]
    assert found("cats", *rows) == [2]
    assert found("fred", *rows) == []
    assert found("png", *rows) == [0, 1, 2]
    assert found("cats/dogs/1.png", *rows) == [0]  # as people paste it
    assert found("cats/2.png", *rows) == [1]


def test_a_path_whose_source_is_not_known_is_searched_whole() -> None:
    rows = [{"path": "/data/cats/1.png", "source_id": "17"}, {"path": "/data/cats/2.png"}]
    assert found("cats", *rows) == [0, 1]
    zipped = {"path": "/data/cats.zip::dogs/1.png", "source_id": "dogs/1.png"}
    assert found("cats", zipped) == [] and found("dogs", zipped) == [0]


@pytest.mark.parametrize("word", ["\u00e4pfel", "A\u0308PFEL"])
def test_accents_are_found_however_they_are_written(word: str) -> None:
    rows = [{"prompt": "\u00c4pfel"}, {"simple": "rote a\u0308pfel"}, {"prompt": "apfel"}]
    assert found(word, *rows) == [0, 1]


@pytest.mark.parametrize("word", ["bad", "facade", "DECADE", "f00d"])
def test_words_of_hexadecimal_digits_are_found_by_inspect_as_by_the_viewer(
    word: str, tmp_path: Path
) -> None:
    rows = samples(9, id=lambda n: f"{word.lower() if n == 4 else n:0<32}")
    rows[3]["simple_prompt"] = f"a {word.lower()} in the sun"
    workspace = make_workspace(tmp_path / "w", [rows])
    matches, total = inspect.find(workspace, word, 10)
    assert [match.row for match in matches] == ([3, 4] if len(word) == 6 else [3])
    assert total == len(matches)
    assert _in_the_viewer(workspace, word) == 1


def _in_the_viewer(workspace: Workspace, words: str) -> int:
    view = View(workspace)
    return gallery.page(view, view.snapshot(), Query(words=words)).total
