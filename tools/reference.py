"""Every recipe key, as Markdown: ``python -m tools.reference > docs/recipes.md``."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from surd.params import is_runtime
from surd.recipe.keys import Recipe
from surd.recipe.load import shipped_recipes
from surd.sources.kinds import SOURCES

_INTRO = """\
# Recipes

A recipe is a YAML file. `surd build NAME -o DIR` takes the name of a shipped recipe
({shipped}) or a path; `--set KEY=VALUE` overrides any key, as
in `--set sources.0.limit=100`; `--plan` checks the recipe and lists what would be done. Unknown
keys are errors. An existing workspace keeps its own settings where the recipe differs, unless you
give `--replace`. Relative paths start from the folder in which you run surd. This page is generated
from the code.

Keys marked *runtime* affect speed and patience, never the result; changing them recomputes nothing.
"""


def recipe_reference() -> str:
    """The whole page."""
    sections = [_INTRO.format(shipped=", ".join(f"`{name}`" for name in shipped_recipes()))]
    sections.append(_section("Recipe", Recipe))
    sections += [_section(f"Source `{kind}`", params) for kind, (params, _) in SOURCES.items()]
    sections += [_section(f"`{key}`", model) for key, model in _below(Recipe)]
    return "\n".join(sections)


def _below(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """Key and model of every mapping in a model, at any depth; sources have tags, not keys."""
    for name, field in model.model_fields.items():
        arguments = (field.annotation, *typing.get_args(field.annotation))
        for found in arguments:
            if isinstance(found, type) and issubclass(found, BaseModel):
                yield f"{prefix}{name}", found
                yield from _below(found, f"{prefix}{name}.")


def _section(title: str, model: type[BaseModel]) -> str:
    lines = [f"## {title}", "", "| key | type | default | |", "|---|---|---|---|"]
    lines += list(_rows(model))
    return "\n".join(lines) + "\n"


def _rows(model: type[BaseModel]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        runtime = " *(runtime)*" if is_runtime(field) else ""
        text = (field.description or "").replace("|", "\\|")
        yield f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {text}{runtime} |"


def _type(annotation: Any) -> str:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is Literal:
        return " or ".join(f"`{value}`" for value in arguments)
    if origin in (typing.Union, types.UnionType):
        parts = (_type(part) for part in arguments if part is not type(None))
        return " or ".join(dict.fromkeys(parts))
    if origin is typing.Annotated:
        return _type(arguments[0])
    if origin in (list, tuple):
        return f"list of {_type(arguments[0])}"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "mapping"
    names = {str: "text", int: "whole number", float: "number", bool: "true or false"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    if field.default is None or isinstance(field.default, BaseModel):
        return ""
    return f"`{json.dumps(field.default)}`"


if __name__ == "__main__":
    print(recipe_reference(), end="")
