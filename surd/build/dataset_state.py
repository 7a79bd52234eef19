"""Whether a workspace's dataset is what ``surd publish`` would write today."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from surd.build.needs import not_publishable
from surd.build.run import open_recipe
from surd.dataset.atomic_folder import DESCRIPTION, FOLDER, read_description
from surd.dataset.publish.run import compare
from surd.errors import SurdError, command
from surd.recipe.pipeline import styles_of
from surd.store.workspace import Workspace


@dataclass(frozen=True)
class DatasetState:
    """What there is, and how it compares with what would be published today."""

    state: Literal["fresh", "card", "stale", "missing"]
    """``card`` where the texts alone would come out otherwise."""
    why: str = ""
    """One line with the commands to run, of ``card`` and ``stale``."""
    splits: dict[str, int] = field(default_factory=dict)
    """Split -> samples."""


def dataset_state(workspace: Workspace) -> DatasetState:
    """Reads footers. Raises WorkspaceError or RecipeError for a broken manifest."""
    recipe = open_recipe(workspace)
    said = read_description(workspace.storage)
    location = workspace.location
    publish = command("publish", location)
    if said is None:
        return DatasetState("missing")
    splits = {name: counts["rows"] for name, counts in said["splits"].items()}
    first = not_publishable(workspace, recipe)
    if first is not None:
        return DatasetState("stale", f"{first}, then: {publish}", splits)
    styles = [stage.group for stage in styles_of(recipe)]
    try:
        state = compare(workspace, recipe.publish, styles=styles)
    except SurdError as error:
        return DatasetState("stale", f"{error}, then: {publish}", splits)
    if state == "fresh":
        return DatasetState(state, splits=splits)
    what = "the card of its dataset" if state == "card" else "its dataset"
    why = f"{location}: {what} is not what today's verdicts, prompts and settings give"
    return DatasetState(state, f"{why}; run: {publish}", splits)


def need_published(location: str, *, card: bool = False) -> None:
    """Raise SurdError where `location` is a workspace with a dataset that is not what would be
    published today; `card`: or where its card is not. A dataset's own folder is taken as it is."""
    found = _state_at(location)
    if found.state == "stale" or (card and found.state == "card"):
        itself = f"{location.rstrip('/')}/{FOLDER}"
        raise SurdError(f"{found.why}; or name {itself}, to take it as it is")


def told_as_published(location: str) -> str | None:
    """One line where what is about to be read is not what would be published today."""
    found = _state_at(location)
    return f"{found.why}; until then it is taken as it is" if found.state == "stale" else None


def _state_at(location: str) -> DatasetState:
    """``missing`` also where there is no workspace."""
    workspace = Workspace(location)
    if workspace.storage.exists(DESCRIPTION) or not workspace.has_manifest():
        return DatasetState("missing")
    return dataset_state(workspace)
