"""Bringing a workspace up to date with what was decided and edited by hand."""

from __future__ import annotations

from surd.build.needs import need_groups
from surd.build.run import Options, StageSummary, build, open_recipe
from surd.store import edits
from surd.store.workspace import Workspace


def apply(workspace: Workspace, *, quiet: bool = True) -> list[StageSummary]:
    """Score the simple prompts that were edited, if any, and judge anew; what each stage did.
    Raises SurdError.

    Rows that nobody edited are not computed again, as long as their settings are those of today.
    """
    need_groups(workspace, "filter")
    recipe = open_recipe(workspace)
    stages = ("score", "dedup", "filter") if edits.unscored(workspace) else ("filter",)
    return [
        summary
        for stage in stages
        for summary in build(workspace, recipe, Options(only=stage, quiet=quiet))
    ]
