"""What a workspace holds that surd computes again or nobody reads any more."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from surd.build.run import open_recipe
from surd.dataset.atomic_folder import FOLDER
from surd.llm import layout
from surd.recipe.pipeline import STAGES
from surd.stages import inventory
from surd.store import edits, manual
from surd.store.storage import is_temporary
from surd.store.workspace import Workspace, part_name

CACHE = "adapter/cache"
MAP = "view"
"""The viewer's, which imports what is built here."""
_WRITTEN_S = 3600
"""A file written longer ago than this will not be finished any more."""


@dataclass(frozen=True)
class Removable:
    """Files that may go together."""

    what: str
    why: str
    """What is lost with them."""
    files: tuple[str, ...]
    """Names within the workspace."""
    bytes: int


def find(workspace: Workspace) -> list[Removable]:
    """Every kind there is of them. Raises WorkspaceError or RecipeError."""
    recipe = open_recipe(workspace)
    vectors = [layout.group(model, layer) for model, layer in layout.stored(workspace)]
    used = layout.short_name(recipe.embed_llm.model, recipe.embed_llm.gguf_file)
    unused = [group for group in vectors if group.split("/")[1] != used]
    groups = ["samples", *(stage.group for stage in STAGES), *vectors]
    named = {
        "leftovers of runs that were killed": ("nobody reads them", _leftovers(workspace, groups)),
        "parts without samples": ("nobody reads them", _orphans(workspace, groups[1:])),
        "caches of training": ("the next training computes them again", _below(workspace, CACHE)),
        "map of surd view": ("surd view computes it again", _below(workspace, MAP)),
        "vectors of other language models": (
            f"the recipe names {used}; surd embed-llm computes them again, or import them again",
            (file for group in unused for file in _below(workspace, group)),
        ),
    }
    found = []
    for what, (why, files) in named.items():
        sizes = dict(files)
        if sizes:
            found.append(Removable(what, why, tuple(sizes), sum(sizes.values())))
    return found


def remove(workspace: Workspace, chosen: Sequence[Removable]) -> None:
    """Delete them. Raises WorkspaceError while another process works on the workspace."""
    with workspace.locked():
        for one in chosen:
            for name in one.files:
                workspace.storage.delete(name)
    _remove_empty(workspace, [name for one in chosen for name in one.files])


def _below(workspace: Workspace, folder: str) -> Iterator[tuple[str, int]]:
    """Files in a folder and its subfolders, with their bytes."""
    storage = workspace.storage
    root = f"{storage.root}/"
    if storage.exists(folder):
        for path, about in storage.fs.find(storage.path(folder), detail=True).items():
            yield path.removeprefix(root), int(about["size"] or 0)


def _leftovers(workspace: Workspace, groups: Sequence[str]) -> Iterator[tuple[str, int]]:
    storage = workspace.storage
    by_hand = (manual.GROUP, edits.GROUP)
    for folder in (".", *groups, *by_hand):
        for name in storage.names(folder):
            path = name if folder == "." else f"{folder}/{name}"
            if is_temporary(name) and not (folder in by_hand and _is_new(workspace, path)):
                yield path, int(storage.fs.size(storage.path(path)) or 0)
    for name in storage.names("."):
        if name.startswith(f"{FOLDER}.tmp-"):
            yield from _below(workspace, name)


def _is_new(workspace: Workspace, name: str) -> bool:
    """Whether somebody may be writing it right now: deciding and editing take no lock."""
    modified: datetime = workspace.storage.fs.modified(workspace.storage.path(name))
    return (datetime.now(UTC) - modified).total_seconds() < _WRITTEN_S


def _orphans(workspace: Workspace, groups: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Parts whose samples are not there, but those that are used again once they are back."""
    storage = workspace.storage
    lost = inventory.lost_parts(workspace)
    there = workspace.parts("samples")
    for group, part in inventory.orphans(workspace, groups) if there else ():
        if not any(part in numbers for numbers in lost):
            name = part_name(group, part)
            yield name, int(storage.fs.size(storage.path(name)) or 0)


def _remove_empty(workspace: Workspace, names: Sequence[str]) -> None:
    """Folders that nothing is left in; object stores have none."""
    if not workspace.storage.is_local:
        return
    from pathlib import Path

    root = Path(workspace.storage.root)
    for name in names:
        for folder in (root / name).parents:
            if folder == root or not folder.is_dir() or any(folder.iterdir()):
                break
            folder.rmdir()
