"""Whatever a recipe holds, it is a recipe or a line that says what to mend."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from surd.errors import RecipeError
from surd.recipe.load import (
    find_recipe,
    load_recipe,
    override_recipe,
    shipped_recipes,
    validate_recipe,
)

RECIPES = {name: load_recipe(path) for name, path in shipped_recipes().items()}
FOLDER = {"name": "x", "sources": [{"kind": "folder", "path": "."}]}
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def keys_of(value: Any, before: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value in a recipe."""
    found = [before] if before else []
    inner = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, some in inner:
        found += keys_of(some, (*before, key))
    return found


def replaced(raw: Any, way: tuple[Any, ...], value: Any) -> Any:
    raw = copy.deepcopy(raw)
    node = raw
    for key in way[:-1]:
        node = node[key]
    node[way[-1]] = value
    return raw


def assert_says_what_to_mend(error: RecipeError, begins: str = "") -> None:
    assert str(error)
    assert all(line.startswith(begins) for line in str(error).split("\n"))
    assert "Traceback" not in str(error)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_saved_and_read_again_is_the_same(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe.model_dump(mode="json"), allow_unicode=True))
    assert load_recipe(path) == recipe
    assert override_recipe(recipe, ["name=other", f"name={recipe.name}"]) == recipe


@settings(max_examples=300)
@given(st.data())
def test_any_value_in_place_of_another_is_taken_or_refused_with_its_place(data: Any) -> None:
    raw = RECIPES[data.draw(st.sampled_from(sorted(RECIPES)))].model_dump(mode="json")
    way = data.draw(st.sampled_from(keys_of(raw)))
    changed = replaced(raw, way, data.draw(VALUES))
    try:
        recipe = validate_recipe(changed, "x.yaml")
    except RecipeError as error:
        assert_says_what_to_mend(error, "x.yaml: ")
        return
    again = validate_recipe(recipe.model_dump(mode="json"), "x.yaml")
    assert again.model_dump(mode="json") == recipe.model_dump(mode="json")


@settings(max_examples=150)
@given(st.data(), st.text(min_size=1, max_size=20))
def test_a_key_nobody_knows_is_refused_wherever_it_stands(data: Any, key: str) -> None:
    raw = RECIPES[data.draw(st.sampled_from(sorted(RECIPES)))].model_dump(mode="json")
    places = [way for way in keys_of(raw) if isinstance(way[-1], str)]
    way = (*data.draw(st.sampled_from(places))[:-1], key)
    node = raw
    for step in way[:-1]:
        node = node[step]
    if key in node:
        return
    with pytest.raises(RecipeError, match=r"unknown key|has no keys|valid"):
        validate_recipe(replaced(raw, way, 1), "x.yaml")


@settings(max_examples=300)
@given(
    st.text(max_size=60) | st.from_regex(r"(name|a\.b|sources\.\d): ?[!&*\[{\"'0-9x:.e+-]{0,12}")
)
@example("name: 2001-99-99")
@example("name: !!int x")
@example("name: !!float 1__e")
@example("name: 190:20:30.99999999999999999999")
@example("? [a]\n: b")
@example("!!timestamp 0000-00-00")
def test_any_text_is_a_recipe_or_one_line(tmp_path_factory: Any, text: str) -> None:
    path = Path(tmp_path_factory.getbasetemp()) / "any.yaml"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with pytest.raises(RecipeError) as caught:
        load_recipe(path)
    assert_says_what_to_mend(caught.value)


@settings(max_examples=300)
@given(
    st.text(max_size=40)
    | st.from_regex(r"[a-z_]{1,9}(\.[0-9a-z]{0,5}){0,3}=[!&*\[{\"'0-9x:.e+-]{0,9}")
)
@example("name=2001-99-99")
@example("sources." + "9" * 5000 + "=1")
@example("sources.0.kind=!!int x")
@example("sources=" + "[" * 10_000)
def test_any_override_is_taken_or_one_line(override: str) -> None:
    try:
        override_recipe(RECIPES["folder"], [override])
    except RecipeError as error:
        assert_says_what_to_mend(error)


@settings(max_examples=100)
@given(st.text(min_size=1, max_size=300))
@example("nul\0here")
@example("x" * 5000)
@example("\ud800")
def test_any_name_is_a_recipe_or_one_line(name: str) -> None:
    try:
        find_recipe(name)
    except RecipeError as error:
        assert_says_what_to_mend(error)
