"""``surd collect --refresh``: edited prompts come in, what is gone is marked, and comes back."""

from __future__ import annotations

import contextlib
import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support import digests, jpeg

from surd.errors import SurdError, WorkspaceError
from surd.sources.civitai import CivitaiSource
from surd.sources.folder import FolderSource
from surd.sources.huggingface import HuggingFaceSource
from surd.sources.record import SourceParams
from surd.sources.table import TableSource
from surd.sources.webdataset import WebDatasetSource
from surd.stages.collect import collect
from surd.stages.refresh import Refreshed
from surd.stages.refresh import refresh as refresh_
from surd.stages.source_state import source_key
from surd.store import gone
from surd.store.storage import Storage
from surd.store.workspace import Workspace

Surd = Callable[..., Any]
NOTHING = Refreshed(changed=0, gone=0, back=0)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "w")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """Ten pictures, each with its prompt beside it."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    for n in range(10):
        (folder / f"{n}.jpg").write_bytes(jpeg(n))
        (folder / f"{n}.txt").write_text(f"a cup, number {n}")
    return folder


def refresh(workspace: Workspace, *sources: SourceParams) -> Refreshed:
    results, found = refresh_(workspace, sources, part_size=4)
    assert not any(result.problem for result in results)
    return found


def prompts(workspace: Workspace) -> dict[str, str]:
    """Name of a file or row -> the prompt, in the order of the samples."""
    return {
        row["source_id"]: row["prompt"]
        for part in workspace.parts("samples")
        for row in workspace.read("samples", part, ["source_id", "prompt"]).to_pylist()
    }


def gone_names(workspace: Workspace) -> list[str]:
    """What is gone, by the names it had."""
    ids = gone.read(workspace)
    return [
        row["source_id"]
        for part in workspace.parts("samples")
        for row in workspace.read("samples", part, ["id", "source_id"]).to_pylist()
        if row["id"] in ids
    ]


def files(workspace: Workspace) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path(workspace.location, "samples").iterdir()}


def test_an_edited_sidecar_is_a_new_version_of_its_row_and_of_no_other_part(
    workspace: Workspace, pictures: Path
) -> None:
    source = FolderSource(path=str(pictures))
    collect(workspace, [source], part_size=4)
    before = files(workspace)
    assert refresh(workspace, source) == NOTHING and files(workspace) == before
    (pictures / "5.txt").write_text("two cups")
    (pictures / "7.txt").unlink()
    assert refresh(workspace, source) == Refreshed(changed=2, gone=0, back=0)
    assert prompts(workspace) == {
        f"{n}.jpg": {5: "two cups", 7: None}.get(n, f"a cup, number {n}") for n in range(10)
    }
    changed = {name for name, content in before.items() if content != files(workspace)[name]}
    assert changed == {"part-00001.parquet"}
    assert len(files(workspace)) == len(before) + 1, "there is a file less"
    again = files(workspace)
    assert refresh(workspace, source) == NOTHING and files(workspace) == again


def test_refreshed_samples_are_what_collecting_anew_would_say(
    workspace: Workspace, pictures: Path, tmp_path: Path
) -> None:
    source = FolderSource(path=str(pictures))
    shutil.copy(pictures / "3.jpg", pictures / "x.jpg")
    collect(workspace, [source], part_size=4)
    (pictures / "x.txt").write_text("its copy")
    (pictures / "3.jpg").unlink()
    (pictures / "4.txt").write_text("edited")
    assert refresh(workspace, source) == Refreshed(changed=2, gone=0, back=0)
    anew = Workspace(tmp_path / "anew")
    collect(anew, [source], part_size=4)
    assert prompts(anew)["x.jpg"] == "its copy"
    assert sorted(prompts(workspace).items()) == sorted(prompts(anew).items())


def test_a_removed_image_is_gone_and_a_restored_one_is_back(
    workspace: Workspace, pictures: Path
) -> None:
    source = FolderSource(path=str(pictures))
    collect(workspace, [source], part_size=4)
    before = files(workspace)
    (pictures / "2.jpg").rename(pictures / "2.hidden")
    (pictures / "8.jpg").rename(pictures / "8.hidden")
    assert refresh(workspace, source) == Refreshed(changed=0, gone=2, back=0)
    assert gone_names(workspace) == ["2.jpg", "8.jpg"]
    marked = files(workspace)
    note = f"source-{source_key(source)}.json"
    assert marked.keys() - before.keys() == {"gone.json", note}
    assert before.items() <= marked.items()
    assert refresh(workspace, source) == NOTHING and files(workspace) == marked
    (pictures / "2.hidden").rename(pictures / "2.jpg")
    assert refresh(workspace, source) == Refreshed(changed=0, gone=0, back=1)
    assert gone_names(workspace) == ["8.jpg"]
    (pictures / "8.hidden").rename(pictures / "8.jpg")
    assert refresh(workspace, source) == Refreshed(changed=0, gone=0, back=1)
    assert files(workspace) == before


def test_a_replaced_image_is_a_new_sample_and_the_old_one_gone(
    workspace: Workspace, pictures: Path
) -> None:
    source = FolderSource(path=str(pictures))
    collect(workspace, [source], part_size=4)
    (pictures / "2.jpg").write_bytes(jpeg(99))
    results, found = refresh_(workspace, [source], part_size=4)
    assert ([r.new for r in results], found) == ([1], Refreshed(changed=0, gone=1, back=0))
    assert len(gone.read(workspace)) == 1
    assert refresh(workspace, source) == NOTHING


def test_rows_of_a_table_change_and_go_and_so_do_its_files(
    workspace: Workspace, pictures: Path
) -> None:
    path = pictures / "t.csv"

    def write(**prompts: str) -> None:
        rows = (f"{name},{name[1:]}.jpg,{prompt}\n" for name, prompt in prompts.items())
        path.write_text("id,path,prompt\n" + "".join(rows))

    source = TableSource(path=str(path))
    write(n0="a", n1="b", n2="c", n3="d", n4="e")
    collect(workspace, [source], part_size=4)
    write(n0="a", n2="C", n3="d", n4="e", n5="f")
    (pictures / "3.jpg").unlink()
    results, found = refresh_(workspace, [source], part_size=4)
    assert ([r.new for r in results], found) == ([1], Refreshed(changed=1, gone=2, back=0))
    assert prompts(workspace) == {"n0": "a", "n1": "b", "n2": "C", "n3": "d", "n4": "e", "n5": "f"}
    assert gone_names(workspace) == ["n1", "n3"]
    assert refresh(workspace, source) == NOTHING


def test_members_of_shards_change_and_go(workspace: Workspace, tmp_path: Path) -> None:
    def write(**prompts: str) -> None:
        with tarfile.open(tmp_path / "s.tar", "w") as tar:
            for name, prompt in prompts.items():
                for suffix, data in (("jpg", b"\xff\xd8\xff"), ("txt", prompt.encode())):
                    member = tarfile.TarInfo(f"{name}.{suffix}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))

    source = WebDatasetSource(path=str(tmp_path / "s.tar"))
    write(a="one", b="two", c="three")
    collect(workspace, [source], part_size=4)
    write(a="one", c="THREE")
    assert refresh(workspace, source) == Refreshed(changed=1, gone=1, back=0)
    assert gone_names(workspace) == ["b"] and prompts(workspace)["c"] == "THREE"


def test_what_one_source_lost_and_another_has_is_not_gone(
    workspace: Workspace, pictures: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(pictures / "2.jpg", other / "copy.jpg")
    sources = [FolderSource(path=str(pictures)), FolderSource(path=str(other))]
    collect(workspace, sources, part_size=4)
    (pictures / "2.jpg").unlink()
    assert refresh(workspace, *sources) == Refreshed(changed=1, gone=0, back=0)
    assert "copy.jpg" in prompts(workspace)


def test_of_a_source_that_fails_or_has_left_the_recipe_nothing_is_gone(
    workspace: Workspace, pictures: Path, tmp_path: Path
) -> None:
    moved = tmp_path / "moved"
    source, table = FolderSource(path=str(pictures)), TableSource(path=str(tmp_path / "t.csv"))
    (tmp_path / "t.csv").write_text("url,prompt\nhttp://there.example/1.jpg,a cup\n")
    collect(workspace, [source, table], part_size=4)
    pictures.rename(moved)
    results, found = refresh_(workspace, [source, table], part_size=4)
    assert results[0].problem and found == NOTHING
    assert refresh(workspace, table) == NOTHING
    moved.rename(pictures)
    (pictures / "2.jpg").unlink()
    assert refresh(workspace, source) == Refreshed(changed=0, gone=1, back=0)


def test_known_samples_beyond_the_limit_are_looked_at_and_new_ones_are_not_added(
    workspace: Workspace, pictures: Path
) -> None:
    source = FolderSource(path=str(pictures), limit=6)
    collect(workspace, [source], part_size=4)
    (pictures / "0.a.jpg").write_bytes(jpeg(50))
    (pictures / "5.txt").write_text("beyond the limit now")
    (pictures / "9.txt").write_text("never asked for")
    results, found = refresh_(workspace, [source], part_size=4)
    assert ([r.new for r in results], found) == ([1], Refreshed(changed=1, gone=0, back=0))
    assert len(prompts(workspace)) == 7 and prompts(workspace)["5.jpg"] == "beyond the limit now"
    raised = source.model_copy(update={"limit": 9})
    assert [result.new for result in collect(workspace, [raised], part_size=4)] == [2], (
        "what was looked at beyond the limit does not count as looked at"
    )


def test_killed_at_any_write_the_next_refresh_ends_as_if_undisturbed(
    workspace: Workspace, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    source = FolderSource(path=str(pictures))
    collect(workspace, [source], part_size=4)
    collected = tmp_path / "collected"
    shutil.copytree(workspace.location, collected)
    for n, prompt in ((1, "one"), (5, "five"), (9, "nine")):
        (pictures / f"{n}.txt").write_text(prompt)
    (pictures / "3.jpg").unlink()
    (pictures / "91.jpg").write_bytes(jpeg(91))
    assert refresh(workspace, source) == Refreshed(changed=3, gone=1, back=0)
    undisturbed = files(workspace)
    write = Storage.writing
    for moment in range(10):
        shutil.rmtree(workspace.location)
        shutil.copytree(collected, workspace.location)
        left = moment

        @contextlib.contextmanager
        def writing(self: Storage, name: str) -> Iterator[Path]:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            with write(self, name) as path:
                yield path

        monkeypatch.setattr(Storage, "writing", writing)
        try:
            refresh(workspace, source)
        except Killed:
            monkeypatch.setattr(Storage, "writing", write)
            refresh(workspace, source)
        else:
            break
        assert files(workspace) == undisturbed
    assert moment == 5, "the new row, three parts with changed rows, and what is gone"


def test_sources_that_list_what_they_choose_are_refused(
    workspace: Workspace, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    api = CivitaiSource(base_url="http://127.0.0.1:9", retries=0)
    with pytest.raises(SurdError, match=r"--refresh: civitai: an API chooses what to list"):
        refresh_(workspace, [api], part_size=4)
    rows = HuggingFaceSource(path=str(pictures))
    with pytest.raises(SurdError, match=r"set key_column to a column of ids"):
        refresh_(workspace, [rows], part_size=4)
    folder = FolderSource(path=str(pictures))
    results, _ = refresh_(workspace, [api, folder], part_size=4)
    assert results[0].problem and results[1].new == 10
    assert "civitai: an API chooses what to list" in caplog.text
    assert "collecting only what is new" in caplog.text


def test_a_damaged_list_of_what_is_gone_is_one_line(workspace: Workspace, pictures: Path) -> None:
    source = FolderSource(path=str(pictures))
    collect(workspace, [source], part_size=4)
    Path(workspace.location, "samples", "gone.json").write_text('{"gone": 1}')
    with pytest.raises(
        WorkspaceError, match=r"gone\.json: damaged .*delete it and run: .*--refresh"
    ):
        refresh(workspace, source)


def test_only_what_depends_on_a_changed_row_is_computed_again(
    surd: Surd, pictures: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "w"
    until = ("--until", "prompts", "--set", f"sources.0.path={pictures}", "--set", "part_size=4")
    assert surd("build", "folder", "-o", folder, *until).code == 0
    before = digests(folder)
    (pictures / "5.txt").write_text("two cups")
    (pictures / "9.jpg").unlink()
    (pictures / "91.jpg").write_bytes(jpeg(91))
    ran = surd("collect", folder, "--refresh")
    assert ran.code == 0 and "1 new, 1 changed, 1 gone, 0 back, 9 already known" in ran.out
    (pictures / "6.jpg").unlink()  # its bytes are kept
    ran = surd("build", "folder", "-o", folder, "--json", *until)
    assert {s["stage"]: s["computed"] for s in ran.json["stages"]} == {
        "collect": 0,
        "download": 2,
        "prompts": 2,
    }
    assert ran.json["stages"][1]["counts"] == {"ok": 11}
    after = digests(folder)
    same = {name for name in before if after[name] == before[name]}
    assert {name for name in same if "00000" in name} == {
        name for name in before if "00000" in name
    }
    assert "images/part-00001.parquet" not in same, "its rows are the same, its inputs are not"
    images = pq.read_table(folder / "images" / "part-00001.parquet")
    assert images["bytes"][2].as_py() == jpeg(6)
    ran = surd("collect", folder, "--refresh", "--json")
    assert ran.json["stages"][0]["counts"] == {
        "new": 0, "known": 9, "changed": 0, "gone": 1, "back": 0,
    }  # fmt: skip
    ran = surd("build", "folder", "-o", folder, "--json", *until)
    assert {s["computed"] for s in ran.json["stages"]} == {0} and digests(folder) == after


def test_a_source_without_any_record_is_told_and_marks_nothing_as_gone(
    workspace: Workspace, pictures: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As a folder is on which a disk should be mounted, or a table that was cut to its header."""
    table = pictures.parent / "table.csv"
    lines = ["path,prompt", *(f"{n}.jpg,a cup {n}" for n in range(10))]
    table.write_text("\n".join(lines))
    source = TableSource(kind="table", path=str(table), images_root=str(pictures))
    collect(workspace, [source], 4)
    table.write_text(lines[0])
    assert refresh(workspace, source) == NOTHING
    assert "no records at all" in caplog.text
    assert gone.read(workspace) == frozenset()
