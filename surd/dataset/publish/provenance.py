"""How a dataset was made, as far as it may be told: no secrets, paths or addresses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from surd.params import Params, lasting
from surd.store.workspace import Manifest, Workspace

if TYPE_CHECKING:
    from surd.recipe.keys import Recipe

_NOT_STAGES = {"demo_site", "publish", "embed_llm", "train_adapter"}
_PRIVATE = {"allow_private_addresses", "contact"}
_SOURCE_KEYS = ("kind", "limit", "endpoint", "nsfw", "sort", "period")
_LOCAL_PATH = re.compile(r"(~|\.{0,2}[/\\]|[A-Za-z]:[/\\]|file:)")


@dataclass(frozen=True)
class Made:
    """The recipe behind a dataset."""

    name: str
    description: str
    sources: list[dict[str, Any]]
    settings: dict[str, dict[str, Any]]
    """Stage -> the parameters that matter to the result."""
    versions: dict[str, str]


def how_made(workspace: Workspace) -> Made:
    """Read it from the manifest. Raises WorkspaceError or RecipeError."""
    from surd.recipe.keys import Recipe
    from surd.recipe.load import stored_recipe
    from surd.recipe.pipeline import params_of, styles_of

    manifest: Manifest = workspace.read_manifest()
    recipe = stored_recipe(manifest.recipe, f"{workspace.location}/surd.json: recipe")
    sources = [
        {key: value for key in _SOURCE_KEYS if (value := getattr(source, key, None)) is not None}
        for source in recipe.sources
    ]
    settings = {}
    for name in Recipe.model_fields:
        value = getattr(recipe, name)
        if isinstance(value, Params) and name not in _NOT_STAGES:
            settings[name] = _public(lasting(value))
        for stage in styles_of(recipe) if name == "caption" else ():
            settings[stage.name] = _public(lasting(params_of(recipe, stage)))
    return Made(_name(workspace, recipe), recipe.description, sources, settings, manifest.versions)


def _name(workspace: Workspace, recipe: Recipe) -> str:
    """The name that somebody gave: the recipe's; the folder's, where the recipe ships with surd."""
    from surd.recipe.load import shipped_recipes

    if recipe.name not in shipped_recipes() or recipe.demo_site is not None:
        return recipe.name
    return workspace.storage.root.rstrip("/").rsplit("/", 1)[-1] or recipe.name


def _public(value: Any) -> Any:
    """The value without what concerns this machine alone: a local path keeps its last name."""
    if isinstance(value, dict):
        return {key: _public(inner) for key, inner in value.items() if key not in _PRIVATE}
    if isinstance(value, list):
        return [_public(inner) for inner in value]
    if isinstance(value, str) and _LOCAL_PATH.match(value):
        return re.split(r"[/\\]", value.rstrip("/\\"))[-1]
    return value
