"""Every recipe key, as Markdown: ``python -m surd.reference > docs/recipes.md``."""

from __future__ import annotations

import json
import types
import typing
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from surd.adapter.params import TrainAdapterParams
from surd.llm.params import EmbedLlmParams
from surd.recipe import DemoSite, Recipe, shipped_recipes
from surd.resize import Resize
from surd.sources.kinds import SOURCES
from surd.stage import is_runtime
from surd.stages.download import DownloadParams
from surd.stages.prompts import PromptsParams

_INTRO = """\
# Recipes

A recipe is a YAML file. `surd build NAME -o DIR` takes the name of a shipped recipe
({shipped}) or a path; `--set KEY=VALUE` overrides any key, as
in `--set sources.0.limit=100`; `--plan` checks it and says what would be done. Unknown keys are
refused. Relative paths start from the folder surd is started in. This page is made from the code.

Keys marked *runtime* change how fast or how patiently, never what comes out; changing them computes
nothing again.
"""


def recipe_reference() -> str:
    """The whole page."""
    sections = [_INTRO.format(shipped=", ".join(f"`{name}`" for name in shipped_recipes()))]
    sections.append(_section("Recipe", Recipe))
    for kind, (params, _) in SOURCES.items():
        sections.append(_section(f"Source `{kind}`", params))
    sections.append(_section("`download`", DownloadParams))
    sections.append(_section("`download.resize`", Resize))
    sections.append(_section("`prompts`", PromptsParams))
    sections.append(_section("`embed_llm`", EmbedLlmParams))
    sections.append(_section("`train_adapter`", TrainAdapterParams))
    sections.append(_section("`demo_site`", DemoSite))
    return "\n".join(sections)


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
    if origin is list:
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
