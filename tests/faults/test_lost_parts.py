"""Parts of samples that are gone, come from elsewhere, or are there twice."""

from __future__ import annotations

import re
import shutil
from itertools import chain
from pathlib import Path

import pytest
from support_publish import make_workspace, samples

from surd.build.clean import find
from surd.build.run import Options, build
from surd.build.verify import verify
from surd.dataset.publish.run import publish
from surd.errors import WorkspaceError
from surd.recipe.keys import Recipe
from surd.recipe.publish import PublishParams
from surd.stages.inventory import as_ranges, from_ranges, gaps
from surd.store.workspace import Workspace

ROWS, PARTS = 50, 5


def collected(folder: Path, name: str, *, look_again: bool = False) -> Workspace:
    """A workspace with the samples of a table of that name."""
    table = folder / f"{name}.csv"
    rows = "".join(f"http://{name}.example/{n}.jpg,p\n" for n in range(ROWS))
    table.write_text(f"url,prompt\n{rows}")
    recipe = Recipe.model_validate(
        {
            "name": name,
            "sources": [{"kind": "table", "path": str(table)}],
            "part_size": ROWS // PARTS,
        }
    )
    workspace = Workspace(folder / f"{name}-workspace")
    options = Options(only="collect", look_again=look_again, quiet=True)
    assert [summary.problems for summary in build(workspace, recipe, options)] == [[]]
    return workspace


def part(workspace: Workspace, number: int) -> Path:
    return Path(workspace.location, "samples", f"part-{number:05d}.parquet")


def refused(workspace: Workspace, folder: Path, message: str) -> None:
    """Nobody goes on with such a workspace in silence."""
    assert re.search(message, "\n".join(verify(workspace)))
    with pytest.raises(WorkspaceError, match=message):
        publish(workspace, PublishParams())


@pytest.mark.parametrize(("lost", "told"), [((4,), "4"), ((0, 2, 3), "0, 2-3"), (range(5), "0-4")])
def test_lost_parts_are_told_until_their_samples_are_back(
    tmp_path: Path, lost: tuple[int, ...], told: str
) -> None:
    workspace = collected(tmp_path, "a")
    assert list(verify(workspace)) == []
    for number in lost:
        part(workspace, number).unlink()
    for _ in range(2):  # and nothing forgets it
        message = rf"lost {len(lost)} of its parts \({told}\); put the files back, or collect"
        refused(workspace, tmp_path, message)
        with pytest.raises(WorkspaceError, match=message):
            collected(tmp_path, "a")
    collected(tmp_path, "a", look_again=True)
    assert list(verify(workspace)) == []
    rows = sum(workspace.read("samples", number).num_rows for number in workspace.parts("samples"))
    assert rows == ROWS


def test_parts_of_another_workspace_are_told(tmp_path: Path) -> None:
    workspace, other = collected(tmp_path, "a"), collected(tmp_path, "b")
    shutil.copy(part(other, 1), part(workspace, 7))
    message = r"samples/part-00007.parquet: was collected for another workspace; move it away"
    refused(workspace, tmp_path, message)
    with pytest.raises(WorkspaceError, match=message):
        collected(tmp_path, "a", look_again=True)
    part(workspace, 7).unlink()
    collected(tmp_path, "a")


def test_a_part_that_is_there_twice_is_told(tmp_path: Path) -> None:
    workspace = collected(tmp_path, "a")
    shutil.copy(part(workspace, 1), part(workspace, 7))
    told = "\n".join(verify(workspace))
    assert "part-00007.parquet: 10 samples are there twice" in told
    assert "also in samples/part-00001.parquet; delete the part that was copied here" in told


def test_samples_that_are_there_twice_are_not_published(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "w", [samples(3), samples(2, 3), samples(2, 2)])
    message = "part-00002.parquet: 2 samples are there twice, the first of them also in"
    with pytest.raises(WorkspaceError, match=message):
        publish(workspace, PublishParams())
    assert not (tmp_path / "w" / "dataset").exists()


def test_parts_without_samples_are_told(tmp_path: Path) -> None:
    workspace = collected(tmp_path, "a")
    (Path(workspace.location) / "prompts").mkdir()
    shutil.copy(part(workspace, 1), Path(workspace.location, "prompts", "part-00009.parquet"))
    assert "prompts/part-00009.parquet: there are no samples of this part" in "\n".join(
        gaps(workspace)
    )
    part(workspace, 3).unlink()
    assert "lost 1 of its parts (3)" in "\n".join(gaps(workspace))


def test_parts_whose_samples_are_lost_are_to_be_kept_until_those_are_back(tmp_path: Path) -> None:
    workspace = collected(tmp_path, "a")
    for group, number in (("prompts", 4), ("images", 4), ("images", 3), ("images", 9)):
        (Path(workspace.location) / group).mkdir(exist_ok=True)
        shutil.copy(
            part(workspace, 1), Path(workspace.location, group, f"part-0000{number}.parquet")
        )
    part(workspace, 4).unlink()
    lost, other, kept = gaps(workspace)
    assert "lost 1 of its parts (4)" in lost and "surd collect" in lost
    assert "images/part-00009.parquet" in other and "delete it with: surd clean" in other
    assert "parts of images, prompts are there without these samples; keep them" in kept
    assert kept.index("surd build") < kept.index("surd clean")
    removable = [file for one in find(workspace) for file in one.files]
    assert removable == ["images/part-00009.parquet"]
    collected(tmp_path, "a", look_again=True)
    (told,) = gaps(workspace)
    assert "images/part-00009.parquet" in told


def test_a_workspace_of_an_earlier_version_learns_what_it_has(tmp_path: Path) -> None:
    workspace = collected(tmp_path, "a")
    manifest = workspace.read_manifest()
    manifest.collected = None
    workspace.write_manifest(manifest)
    assert list(verify(workspace)) == []
    collected(tmp_path, "a")
    again = workspace.read_manifest().collected
    assert again is not None and again.parts == "0-4" and len(again.sources) == 1


def test_a_manifest_may_claim_a_billion_parts(tmp_path: Path) -> None:
    workspace = collected(tmp_path, "a")
    manifest = workspace.read_manifest()
    assert manifest.collected is not None
    manifest.collected.parts = "0-999999999"
    workspace.write_manifest(manifest)
    [line] = gaps(workspace)
    assert "lost 999,999,995 of its parts (5-999999999)" in line


@pytest.mark.parametrize("numbers", [[], [0], [3, 4], [0, 1, 2, 5, 7, 8]])
def test_ranges_are_read_as_they_were_written(numbers: list[int]) -> None:
    assert list(chain(*from_ranges(as_ranges(numbers)))) == numbers
