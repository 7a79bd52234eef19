from __future__ import annotations

import pytest
import yaml

from surd.errors import RecipeError
from surd.paths import shipped
from surd.recipe.keys import Recipe
from surd.recipe.load import find_recipe, load_recipe, override_recipe
from surd.recipe.presets import DEFAULT, METHODS, preset_names, says_nothing, with_presets
from surd.recipe.train_adapter import TrainAdapterParams


def read(name: str) -> dict:
    return yaml.safe_load((shipped("pipelines/presets") / f"{name}.yaml").read_text("utf-8"))


@pytest.fixture
def recipe() -> Recipe:
    return load_recipe(find_recipe("folder"))


def test_every_method_sets_the_same_keys_so_that_none_hides_a_default() -> None:
    keys = {(section, key) for section, values in read(DEFAULT).items() for key in values}
    assert len(keys) > 20
    for name in METHODS:
        assert {(s, key) for s, values in read(name).items() for key in values} == keys


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_gives_a_valid_recipe_with_its_values(name: str, recipe: Recipe) -> None:
    chosen = with_presets(recipe, [name])
    for section, values in read(name).items():
        for key, value in values.items():
            assert getattr(getattr(chosen, section), key) == value


def test_the_paper_is_what_the_parameters_are_by_default(recipe: Recipe) -> None:
    assert with_presets(recipe, ["paper"]).train_adapter == TrainAdapterParams()
    assert says_nothing(recipe.train_adapter)


def test_a_method_replaces_another_whole(recipe: Recipe) -> None:
    assert with_presets(recipe, ["reader", "code"]) == with_presets(recipe, ["code"])


def test_what_a_recipe_says_is_a_choice(recipe: Recipe) -> None:
    assert not says_nothing(override_recipe(recipe, ["train_adapter.gate=true"]).train_adapter)
    assert not says_nothing(load_recipe(find_recipe("demo")).train_adapter)
    longer = ["train_adapter.steps=9", "train_adapter.seed=3", "train_adapter.llm=demo:llm"]
    assert says_nothing(override_recipe(recipe, longer).train_adapter)


def test_an_unknown_preset_is_named_beside_those_there_are(recipe: Recipe) -> None:
    with pytest.raises(RecipeError, match=r"--preset best: no such preset; presets: .*paper"):
        with_presets(recipe, ["best"])
    with pytest.raises(RecipeError, match="no such preset"):
        with_presets(recipe, ["../demo"])
