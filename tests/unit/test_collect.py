"""Samples come in once, however many there are and wherever they come again."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from surd.sources.kinds import SOURCES
from surd.sources.record import Page, sample_id
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
    numbers = [*rng.sample(range(400), 250), *rng.sample(range(400), 200), *range(400)]
    (tmp_path / "t").mkdir()
    for i, (first, last) in enumerate([(0, 250), (250, 450), (450, 850)]):
        (tmp_path / "t" / f"{i}.csv").write_text(
            "url,prompt\n"
            + "".join(f"http://there.example/{n}.jpg,a cup\n" for n in numbers[first:last])
        )
    workspace = Workspace(tmp_path / "w")
    source = TableSource(path=str(tmp_path / "t"))
    [result] = collect_(workspace, [source], part_size=90)
    assert (result.new, result.known) == (400, 450)
    assert urls(workspace) == [f"http://there.example/{n}.jpg" for n in dict.fromkeys(numbers)], (
        "in the order in which they came first"
    )
    [again] = collect_(workspace, [source], part_size=90, look_again=True)
    assert (again.new, again.known) == (0, 850)
    assert len(urls(workspace)) == 400


# a source that brings nothing new ----------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str | None]:
    """The cursor of every page that a table was asked for."""
    cursors: list[str | None] = []
    params, pages = SOURCES["table"]

    def counted(source: TableSource, cursor: str | None) -> Iterator[Page]:
        for page in pages(source, cursor):
            cursors.append(page.cursor)
            yield page

    monkeypatch.setitem(SOURCES, "table", (params, counted))
    return cursors


def table_of(path: Path, numbers: Iterable[int], prompt: str = "a cup") -> TableSource:
    lines = (f"http://there.example/{n}.jpg,{prompt}\n" for n in numbers)
    path.write_text("url,prompt\n" + "".join(lines))
    return TableSource(path=str(path))


def files(workspace: Workspace) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(workspace.location, "samples").iterdir()}


def test_a_source_whose_records_are_all_known_is_read_once(
    tmp_path: Path, asked: list[str | None]
) -> None:
    workspace = Workspace(tmp_path / "w")
    sources = [table_of(tmp_path / "a.csv", range(250)), table_of(tmp_path / "b.csv", range(240))]
    first = collect_(workspace, sources, part_size=90)
    assert [(r.new, r.known) for r in first] == [(250, 0), (0, 240)] and len(asked) == 6
    before = files(workspace)
    second = collect_(workspace, sources, part_size=90)
    assert [r.fresh for r in second] == [True, True] and len(asked) == 6
    assert files(workspace) == before
    third = collect_(workspace, sources, part_size=90, look_again=True)
    assert [(r.new, r.known) for r in third] == [(0, 250), (0, 240)] and len(asked) == 12
    assert files(workspace) == before
    table_of(tmp_path / "b.csv", range(260))
    fourth = collect_(workspace, sources, part_size=90, look_again=True)
    assert [r.new for r in fourth] == [0, 10]
    assert all(r.fresh for r in collect_(workspace, sources, part_size=90)) and len(asked) == 18
    assert files(workspace).keys() == {f"part-{n:05d}.parquet" for n in range(4)}, (
        "the state is in the footer of the new part"
    )


def test_a_raised_limit_that_brings_nothing_new_is_remembered(
    tmp_path: Path, asked: list[str | None]
) -> None:
    workspace = Workspace(tmp_path / "w")
    source = table_of(tmp_path / "t.csv", [*range(35), *range(35)])
    for limit in (35, 80):
        collect_(workspace, [source.model_copy(update={"limit": limit})], part_size=90)
    pages = len(asked)
    [again] = collect_(workspace, [source.model_copy(update={"limit": 80})], part_size=90)
    assert again.fresh and len(asked) == pages and len(urls(workspace)) == 35


def test_known_pages_are_not_read_again_after_a_kill(
    tmp_path: Path, asked: list[str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collect, "_SAVE_EVERY", 200)
    workspace = Workspace(tmp_path / "w")
    sources = [table_of(tmp_path / "a.csv", range(1000)), table_of(tmp_path / "b.csv", range(1000))]
    undisturbed = Workspace(tmp_path / "undisturbed")
    collect_(undisturbed, sources, part_size=400)

    class Killed(BaseException):
        pass

    def kill(row: object, kind: object) -> str:
        if len(asked) - before == 17:
            raise Killed
        return sample_id(str(row), str(kind))

    before = len(asked)
    monkeypatch.setattr(collect, "sample_id", kill)
    with pytest.raises(Killed):
        collect_(workspace, sources, part_size=400)
    monkeypatch.setattr(collect, "sample_id", sample_id)
    del asked[:]
    collect_(workspace, sources, part_size=400)
    assert [json.loads(cursor or "{}")["row"] for cursor in asked] == [500, 600, 700, 800, 900]
    assert files(workspace) == files(undisturbed)


def test_the_state_of_a_source_counts_only_with_the_part_it_was_written_after(
    tmp_path: Path, asked: list[str | None]
) -> None:
    workspace = Workspace(tmp_path / "w")
    (tmp_path / "t").mkdir()
    for name in ("a.csv", "b.csv"):
        table_of(tmp_path / "t" / name, range(100))
    source = TableSource(path=str(tmp_path / "t"))
    collect_(workspace, [source.model_copy(update={"limit": 100})], part_size=60)
    [first] = collect_(workspace, [source], part_size=60)
    [note] = Path(workspace.location, "samples").glob("source-*.json")
    assert first.new == 0 and len(asked) == 3
    Path(workspace.location, "samples", "part-00001.parquet").unlink()
    [result] = collect_(workspace, [source], part_size=60)
    assert (result.new, result.fresh) == (40, False) and not note.exists()
    assert urls(workspace) == [f"http://there.example/{n}.jpg" for n in range(100)]
    note.write_text('{"part": ')
    [result] = collect_(workspace, [source], part_size=60)
    assert result.fresh and not note.exists(), "what is no note is passed over"


def test_an_empty_source_is_asked_in_every_build(tmp_path: Path, asked: list[str | None]) -> None:
    workspace = Workspace(tmp_path / "w")
    source = table_of(tmp_path / "t.csv", ())
    collect_(workspace, [source], part_size=90)
    table_of(tmp_path / "t.csv", range(3))
    [result] = collect_(workspace, [source], part_size=90)
    assert result.new == 3


# sources that fail ------------------------------------------------------------------------------


def test_collect_without_its_only_source_has_done_nothing(
    surd: Callable[..., Any], tmp_path: Path
) -> None:
    recipe, folder = _of_tables(tmp_path, "a.csv")
    assert surd("build", recipe, "-o", folder, "--until", "collect").code == 0
    assert "read to their end before" in surd("build", "-o", folder, "--until", "collect").out
    (tmp_path / "a.csv").unlink()
    for more in ((), ("--refresh",), ("--json",)):
        ran = surd("collect", folder, *more)
        assert (ran.code, ran.out) == (2, "") and "a.csv: no csv" in ran.err
    ran = surd("build", "-o", folder, "--until", "collect")
    assert ran.code == 0, "what was collected is there"


def test_collect_without_one_of_its_sources_exits_with_1(
    surd: Callable[..., Any], tmp_path: Path
) -> None:
    recipe, folder = _of_tables(tmp_path, "a.csv", "b.csv")
    assert surd("build", recipe, "-o", folder, "--until", "collect").code == 0
    (tmp_path / "a.csv").unlink()
    ran = surd("collect", folder)
    assert ran.code == 1 and "a.csv: no csv" in ran.err and "0 new, 1 already known" in ran.out
    (tmp_path / "a.csv").write_text("url,prompt\n")
    ran = surd("collect", folder)
    assert ran.code == 0 and "read to their end before" not in ran.out


def _of_tables(tmp_path: Path, *names: str) -> tuple[Path, Path]:
    """A recipe of tables with a record each, and where to build it."""
    for name in names:
        (tmp_path / name).write_text(f"url,prompt\nhttp://there.example/{name}.jpg,a cup\n")
    sources = [{"kind": "table", "path": str(tmp_path / name)} for name in names]
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"name": "tables", "sources": sources}))
    return recipe, tmp_path / "w"
