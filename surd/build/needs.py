"""What has to be there before a stage can run, and which command makes it."""

from __future__ import annotations

from collections.abc import Iterable

from surd.errors import WorkspaceError, command
from surd.recipe.pipeline import stage_named
from surd.store.schema import MADE_BY
from surd.store.workspace import Workspace


def need_groups(workspace: Workspace, stage_name: str) -> None:
    """Raise WorkspaceError naming the first stage to run before this one can."""
    need_read(workspace, stage_named(stage_name).reads)


def need_read(workspace: Workspace, groups: Iterable[str]) -> None:
    """Raise WorkspaceError naming the first stage to run, where a group is not there yet."""
    if not workspace.parts("samples"):
        raise WorkspaceError(
            f"{workspace.location}: has no samples; run: {command('collect', workspace.location)}"
        )
    have = set(workspace.parts("samples"))
    for group in sorted(groups, key=list(MADE_BY).index):
        missing = have - set(workspace.parts(group))
        if missing:
            part = "" if missing == have else f" in part {min(missing)}"
            raise WorkspaceError(
                f"{workspace.location}: {group} is missing{part}; first run: "
                + command(MADE_BY[group], workspace.location)
            )


def left_out(workspace: Workspace) -> int:
    """How many images were not captioned, since they had no complex prompt."""
    infos = (workspace.part_info("captions", part) for part in workspace.parts("captions"))
    return sum(info.extra.get("counts", {}).get("no_prompt", 0) for info in infos if info)
