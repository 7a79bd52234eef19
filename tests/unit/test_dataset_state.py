"""Whether the dataset of a workspace is what would be published today, and who is told."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_publish import make_workspace, publish_anew, samples

from surd.build.dataset_state import dataset_state, need_published, told_as_published
from surd.build.run import Options, build, open_recipe
from surd.errors import SurdError
from surd.recipe.publish import PublishParams
from surd.store import edits, manual
from surd.store.workspace import Workspace

Surd = Callable[..., Any]
NOT_TODAYS = "its dataset is not what today's verdicts, prompts and settings give"


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("state") / "w"
    publish_anew(make_workspace(folder, [samples(6)]), PublishParams(validation=0, test=0))
    return folder


@pytest.fixture
def workspace(published: Path, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(published, tmp_path / "w"))


def run(workspace: Workspace, stage: str, **settings: Any) -> None:
    manifest = workspace.read_manifest()
    for name, value in settings.items():
        manifest.recipe[name] |= value
    workspace.write_manifest(manifest)
    list(build(workspace, open_recipe(workspace), Options(only=stage, quiet=True)))


def push(folder: Path) -> tuple[Any, ...]:
    return "push", folder, "--repo", "me/x", "--dry-run"


def drop(workspace: Workspace, number: int = 1) -> None:
    manual.decide_all(workspace, {f"{number:032x}": "drop"})
    run(workspace, "filter")


def test_what_was_just_published_is_fresh_and_is_stale_once_others_are_kept(
    workspace: Workspace,
) -> None:
    found = dataset_state(workspace)
    assert (found.state, found.why, found.splits) == ("fresh", "", {"train": 6})
    drop(workspace, 1)
    assert dataset_state(workspace).state == "stale"
    run(workspace, "publish")
    assert dataset_state(workspace).state == "fresh"
    manual.decide_all(workspace, {f"{1:032x}": None, f"{2:032x}": "drop"})
    run(workspace, "filter")
    assert dataset_state(workspace).state == "stale", "as many samples, but others"


def test_other_settings_of_publishing_make_it_stale_and_those_of_the_card_the_card(
    workspace: Workspace,
) -> None:
    manifest = workspace.read_manifest()
    manifest.recipe["publish"] |= {"licence": "mit"}
    workspace.write_manifest(manifest)
    assert dataset_state(workspace).state == "card"
    need_published(workspace.location)
    with pytest.raises(SurdError, match=r"the card of its dataset .* run: surd publish"):
        need_published(workspace.location, card=True)
    manifest.recipe["publish"] |= {"test": 0.5}
    workspace.write_manifest(manifest)
    assert dataset_state(workspace).state == "stale"


def test_edits_that_are_not_scored_and_verdicts_that_are_due_name_the_mend_of_publish(
    workspace: Workspace,
) -> None:
    manual.decide_all(workspace, {f"{1:032x}": "drop"})
    with pytest.raises(SurdError, match=r"the verdicts of part 0 are stale .*surd filter .*, then"):
        need_published(workspace.location)
    edits.write(workspace, {f"{2:032x}": "sks, a cup"}, "by hand")
    with pytest.raises(SurdError, match=r"edited and not scored since; run: surd edit \S+ --apply"):
        need_published(workspace.location)


def test_a_dataset_by_itself_and_a_folder_without_one_are_nobodys_to_judge(
    workspace: Workspace, tmp_path: Path
) -> None:
    assert told_as_published(workspace.location) is None
    drop(workspace)
    assert "run: surd publish" in (told_as_published(workspace.location) or "")
    for place in (f"{workspace.location}/dataset", str(tmp_path / "nothing")):
        need_published(place)
        assert told_as_published(place) is None
    shutil.rmtree(tmp_path / "w" / "dataset")
    assert dataset_state(workspace).state == "missing"
    need_published(workspace.location)


def test_export_and_push_stop_at_a_dataset_that_is_stale_and_take_its_folder_as_it_is(
    surd: Surd, workspace: Workspace, tmp_path: Path
) -> None:
    folder = tmp_path / "w"
    assert "dataset: fresh; 6 train\n" in surd("status", folder).out
    drop(workspace)
    told = (
        f"surd: {folder}: {NOT_TODAYS}; run: surd publish {folder}; or name {folder}/dataset, to "
        "take it as it is\n"
    )
    for words in (("export", folder, "csv", "-o", tmp_path / "o"), push(folder)):
        ran = surd(*words)
        assert (ran.code, ran.out, ran.err) == (2, "", told)
    assert not (tmp_path / "o").exists()
    assert surd("export", folder / "dataset", "csv", "-o", tmp_path / "o").code == 0
    assert surd(*push(folder / "dataset")).code == 0
    status = surd("status", folder)
    assert "dataset: stale; 6 train\n  " in status.out and NOT_TODAYS in status.out
    assert surd("status", folder, "--json").json["dataset"]["state"] == "stale"
    run(workspace, "publish")
    assert surd("export", folder, "csv", "-o", tmp_path / "o2").code == 0
