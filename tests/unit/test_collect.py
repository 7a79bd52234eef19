"""Samples come in once, however many there are and wherever they come again."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from surd.sources.table import TableSource
from surd.stages import collect
from surd.stages.collect import collect as collect_
from surd.store.workspace import Workspace


def urls(workspace: Workspace) -> list[str]:
    return [
        url
        for part in workspace.parts("samples")
        for url in workspace.read("samples", part, ["url"])["url"].to_pylist()
    ]


def test_a_sample_that_comes_again_is_known_wherever_its_id_is_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "_NEW_IDS", 7)
    rng = random.Random(0)
    numbers = list(range(400)) + rng.sample(range(400), 200)
    rng.shuffle(numbers)
    (tmp_path / "t.csv").write_text(
        "url,prompt\n" + "".join(f"http://there.example/{n}.jpg,a cup\n" for n in numbers)
    )
    workspace = Workspace(tmp_path / "w")
    source = TableSource(path=str(tmp_path / "t.csv"))
    [result] = collect_(workspace, [source], part_size=90)
    assert (result.new, result.known) == (400, 200)
    assert urls(workspace) == [f"http://there.example/{n}.jpg" for n in dict.fromkeys(numbers)], (
        "in the order in which they came first"
    )
    [again] = collect_(workspace, [source], part_size=90, look_again=True)
    assert (again.new, again.known) == (0, 600)
    assert len(urls(workspace)) == 400
