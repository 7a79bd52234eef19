"""Reading every byte of a workspace, to find what a disk has lost."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from surd.dataset.atomic_folder import FOLDER, read_description
from surd.errors import WorkspaceError, command
from surd.llm import layout
from surd.stages import inventory
from surd.store.schema import GROUPS
from surd.store.workspace import Workspace

_BLOCK_BYTES = 1 << 20


def verify(workspace: Workspace) -> Iterator[str]:
    """One line for each file that is damaged, lost or another's: its name, what is wrong and the
    mend.

    Parts are noted, so that the next build computes them again.
    """
    vectors = [layout.group(model, layer) for model, layer in layout.stored(workspace)]
    damaged = set()
    for group in (*GROUPS, *vectors):
        for part in workspace.parts(group):
            try:
                workspace.verify(group, part)
            except WorkspaceError as error:
                damaged.add(group)
                yield str(error)
    if "samples" not in damaged:
        yield from _inventory(workspace)
    yield from _shards(workspace)


def _inventory(workspace: Workspace) -> Iterator[str]:
    try:
        for find in (inventory.part_problems, inventory.doubles):
            yield from find(workspace)
    except WorkspaceError as error:
        yield str(error)


def _shards(workspace: Workspace) -> Iterator[str]:
    said = read_description(workspace.storage) or {"files": []}
    for file in said["files"]:
        name = f"{FOLDER}/{file['name']}"
        digest = hashlib.sha256()
        try:
            with workspace.storage.fs.open(workspace.storage.path(name), "rb") as content:
                while block := content.read(_BLOCK_BYTES):
                    digest.update(block)
            why = "" if digest.hexdigest() == file.get("sha256") else "its sha256 differs"
        except OSError as error:
            why = error.strerror or str(error)
        if why:
            yield (
                f"{workspace.location}/{name}: damaged ({why}); delete it and run "
                f"{command('publish', workspace.location)}, which writes it again"
            )
