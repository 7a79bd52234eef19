"""Bringing a workspace up to date with what was decided and edited by hand."""

from __future__ import annotations

from surd.build.needs import need_groups
from surd.build.run import Options, build, open_recipe
from surd.store import edits
from surd.store.workspace import Workspace


def apply(workspace: Workspace, *, quiet: bool = True) -> None:
    """Score the simple prompts that were edited, if any, and judge anew. Raises SurdError.

    Rows that nobody edited are not computed again, as long as their settings are those of today.
    """
    need_groups(workspace, "filter")
    recipe = open_recipe(workspace)
    stages = ("score", "dedup", "filter") if edits.unscored(workspace) else ("filter",)
    for stage in stages:
        for _ in build(workspace, recipe, Options(only=stage, quiet=quiet)):
            pass
