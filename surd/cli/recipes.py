"""Which recipe a command works with: what a person set in a workspace stays set.

A workspace's own recipe comes first. One that is given again changes nothing: where it differs is
told, and how to take it. What ``--set`` says now counts.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from typing import Any

from surd.build.run import open_recipe
from surd.cli.printing import warn
from surd.errors import RecipeError, SurdError, WorkspaceError, command
from surd.recipe.keys import Recipe
from surd.recipe.load import Difference, differences, find_recipe, load_recipe, override_recipe
from surd.stages.source_state import source_key
from surd.store.workspace import Workspace

_LONG = 100
"""Characters of a value on a line."""


def own_or_demo(
    folder: str, overrides: Sequence[str], *, replace: bool, named: bool
) -> tuple[Recipe, str]:
    """The recipe where none is named, and what it is; of a folder that somebody `named`, its own.

    Raises SurdError.
    """
    build = command("build", "RECIPE", "-o", folder)
    if replace:
        raise SurdError(f"--replace: name the recipe to use: {build} --replace")
    workspace = Workspace(folder)
    if workspace.has_manifest():
        own = override_recipe(open_recipe(workspace), overrides)
        return own, f"{folder} uses its own, {own.name}"
    if workspace.parts("samples"):
        raise WorkspaceError(
            f"{folder}: has samples but no surd.json; name the recipe they came from: {build}"
        )
    if named:
        raise WorkspaceError(f"{folder}: not a surd workspace; name a recipe to make one: {build}")
    return load_recipe(find_recipe("demo"), overrides), f"building the demo into {folder}"


def own_or_given(
    folder: str, name: str, overrides: Sequence[str], *, replace: bool
) -> tuple[Recipe, int]:
    """An existing workspace's own recipe, else that of the name; and in how many keys they differ.

    Raises SurdError.
    """
    given = load_recipe(find_recipe(name), overrides)
    workspace = Workspace(folder)
    if replace or not workspace.has_manifest():
        return given, 0
    own = _overridden(folder, open_recipe(workspace), overrides, "--replace")
    differing = differences(own, given)
    _tell(folder, name, differing, "--replace")
    return own, len(differing)


def own_with_sources(
    folder: str, other: Recipe, overrides: Sequence[str], *, name: str, taking: str
) -> Recipe:
    """An existing workspace's own recipe, and the other's sources that it lacks; else the other.

    `name` is what to call the other, `taking` what takes all of it. ``sources.0`` of the overrides
    is the other's first source, wherever it comes to stand. Raises SurdError.
    """
    given = override_recipe(other, overrides)
    workspace = Workspace(folder)
    if not workspace.has_manifest():
        return given
    own = open_recipe(workspace)
    sources = list(own.sources)
    known = {source_key(source): place for place, source in enumerate(sources)}
    places = []
    for source in given.sources:
        places.append(known.setdefault(source_key(source), len(sources)))
        if places[-1] == len(sources):
            sources.append(source)
    own = own.model_copy(update={"sources": sources})
    moved = [
        re.sub(r"^sources\.(\d+)", lambda found: f"sources.{places[int(found[1])]}", override)
        for override in overrides
        if not override.startswith("sources=")  # which given has
    ]
    own = _overridden(folder, own, moved, taking)
    theirs = list(own.sources)
    for place, source in zip(places, given.sources, strict=True):
        theirs[place] = source
    about = {"name": own.name, "description": own.description, "sources": theirs}
    _tell(folder, name, differences(own, given.model_copy(update=about)), taking)
    return own


def _overridden(folder: str, own: Recipe, overrides: Sequence[str], taking: str) -> Recipe:
    try:
        return override_recipe(own, overrides)
    except RecipeError as error:
        raise RecipeError(
            f"{error}; {folder} keeps its own recipe, which has no place for this; to use the "
            f"other recipe: {taking}"
        ) from error


def _tell(folder: str, name: str, differing: Sequence[Difference], taking: str) -> None:
    if not differing:
        return
    shortest = min(differing, key=lambda one: len(_value(one.theirs)))
    one = shlex.quote(f"{shortest.key}={_value(shortest.theirs)}")
    lines = [
        f"{folder} keeps its own settings where {name} differs:",
        *(f"  {d.key}: {_cut(d.ours)}, not {_cut(d.theirs)}" for d in differing),
        f"to use all of the recipe's: {taking}; to use just one: --set {one}",
    ]
    warn("\n".join(lines))


def _value(value: Any) -> str:
    """As ``--set`` takes it: JSON is YAML."""
    return json.dumps(value, ensure_ascii=False)


def _cut(value: Any) -> str:
    text = _value(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."
