"""What has to be there before a stage can run, and which command makes it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from surd.engine.plan import plan
from surd.errors import WorkspaceError, command
from surd.recipe.keys import Recipe
from surd.recipe.pipeline import params_of, stage_named, stage_names, stages_of, styles_of
from surd.store import edits
from surd.store.schema import MADE_BY
from surd.store.workspace import DamagedPartError, Workspace


def need_groups(workspace: Workspace, stage_name: str) -> None:
    """Raise WorkspaceError naming the first stage to run before this one can."""
    need_read(workspace, stage_named(stage_name).reads)


def need_read(workspace: Workspace, groups: Iterable[str]) -> None:
    """Raise WorkspaceError naming the first stage to run, where a group is not there yet."""
    have = set(workspace.parts("samples"))
    if not have:
        raise WorkspaceError(
            f"{workspace.location}: has no samples; run: {command('collect', workspace.location)}"
        )
    for group, missing in _missing(workspace, have, groups):
        part = "" if missing == have else f" in part {min(missing)}"
        raise WorkspaceError(
            f"{workspace.location}: {group} is missing{part}; first run: "
            + command(MADE_BY[group], workspace.location)
        )


def first_to_run(workspace: Workspace, stage_name: str) -> str:
    """The command of a stage, or of the first one before it that has not run."""
    have = set(workspace.parts("samples"))
    missing = _missing(workspace, have, stage_named(stage_name).reads)
    first = next((MADE_BY[group] for group, _ in missing), stage_name) if have else "collect"
    return command(first, workspace.location)


def _missing(
    workspace: Workspace, have: set[int], groups: Iterable[str]
) -> Iterator[tuple[str, set[int]]]:
    """Groups that are not there yet, and the parts that they lack, in the order of the stages."""
    for group in sorted(groups, key=list(MADE_BY).index):
        missing = have - set(workspace.parts(group))
        if missing:
            yield group, missing


def groups_read(recipe: Recipe, name: str) -> Collection[str]:
    """By the stage of that name, ``embed_llm`` among them."""
    if name == "embed_llm":
        from surd.llm.part import reads_of

        return reads_of(recipe.embed_llm.texts)
    return stage_named(name).reads


def damaged_input(workspace: Workspace, groups: Collection[str]) -> str | None:
    """What is told of the first damaged part of the groups, the mend included; None where there is
    none."""
    look = workspace.part_infos(*groups)
    for group in groups:
        for part in workspace.parts(group):
            try:
                look(group, part)
            except DamagedPartError as error:
                return str(error)
    return None


def first_due(workspace: Workspace, recipe: Recipe) -> str | None:
    """The command for the first stage with parts that are not fresh; None where all are that the
    recipe asks for."""
    names = stage_names()
    asked = names[: names.index(recipe.until) + 1] if recipe.until else names
    for stage in stages_of(recipe):
        if MADE_BY[stage.group] not in asked:
            continue
        states = plan(workspace, stage, params_of(recipe, stage))
        if any(state.state != "fresh" for state in states):
            if stage.edited and edits.unscored(workspace):
                return command("edit", workspace.location, "--apply")
            return command(MADE_BY[stage.group], workspace.location)
    return None


def not_scored(workspace: Workspace, recipe: Recipe) -> str | None:
    """Why the scores are not those of today's simple prompts, with the command to run; None where
    they are: prompts were edited, or captions made since."""
    if edits.unscored(workspace):
        return (
            f"{workspace.location}: simple prompts were edited and not scored since; run: "
            + command("edit", workspace.location, "--apply")
        )
    score = stage_named("score")
    for state in plan(workspace, score, params_of(recipe, score)):
        seen = state.info.inputs if state.info else {}
        if state.inputs and "captions" in seen and seen["captions"] != state.inputs["captions"]:
            return (
                f"{workspace.location}: the captions of part {state.part} are newer than its "
                f"scores; run: {command('score', workspace.location)}"
            )
    return None


_WORDS = {"dense": "dense captions", "tags": "tags", "filter": "verdicts"}


def not_publishable(workspace: Workspace, recipe: Recipe) -> str | None:
    """Why the dataset cannot be published now, with the command to run; None where it can."""
    why = not_scored(workspace, recipe)
    if why is not None:
        return why
    for stage in (*styles_of(recipe), stage_named("filter")):
        for state in plan(workspace, stage, params_of(recipe, stage)):
            if state.state == "damaged":
                return state.why
            if state.state == "waiting" and (told := damaged_input(workspace, stage.reads)):
                return told
            if state.state != "fresh":
                why = f" ({state.why})" if state.why else ""
                what = f"the {_WORDS[stage.name]} of part {state.part}"
                return (
                    f"{workspace.location}: {what} are {state.state}{why}; "
                    f"run: {command(MADE_BY[stage.group], workspace.location)}"
                )
    return None


def left_out(workspace: Workspace) -> int:
    """How many images were not captioned, since they had no complex prompt."""
    look = workspace.part_infos("captions")
    infos = (look("captions", part) for part in workspace.parts("captions"))
    return sum(info.extra.get("counts", {}).get("no_prompt", 0) for info in infos if info)
