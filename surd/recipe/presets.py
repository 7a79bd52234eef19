"""Ways to train an adapter: files in ``pipelines/presets`` that set keys of a recipe together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from surd.errors import RecipeError
from surd.paths import shipped
from surd.recipe.keys import Recipe
from surd.recipe.load import read_yaml, validate_recipe
from surd.recipe.train_adapter import TrainAdapterParams

METHODS = ("paper", "code", "distil", "reader", "lora")
"""Presets that say how to train; the others say for what."""
DEFAULT = "distil"
WHY = "which needs no language model"
_LENGTHS = {"steps", "batch_size", "accumulate", "learning_rate", "schedule", "warmup_steps"}
"""Keys that say for how long to train and not how."""


def preset_names() -> list[str]:
    """Of all presets there are."""
    return sorted(path.stem for path in shipped("pipelines/presets").glob("*.yaml"))


def with_presets(recipe: Recipe, names: Sequence[str]) -> Recipe:
    """The recipe with the keys of presets set, one after the other. Raises RecipeError."""
    raw = recipe.model_dump(mode="json")
    for name in names:
        for section, values in _read(name).items():
            raw[section] |= values
    return validate_recipe(raw, f"--preset {' '.join(names)}") if names else recipe


def says_nothing(params: TrainAdapterParams) -> bool:
    """Whether nobody chose a way to train: all that says how is at its default."""
    return all(
        getattr(params, key) == TrainAdapterParams.model_fields[key].default
        for key in _read(DEFAULT)["train_adapter"].keys() - _LENGTHS
    )


def _read(name: str) -> Mapping[str, Mapping[str, Any]]:
    known = preset_names()
    if name not in known:
        raise RecipeError(f"--preset {name}: no such preset; presets: {', '.join(known)}")
    path = shipped("pipelines/presets") / f"{name}.yaml"
    found: Mapping[str, Mapping[str, Any]] = read_yaml(path.read_text("utf-8"), str(path))
    return found
