"""Recipes from YAML files: finding, reading, overriding and comparing them."""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from surd.errors import RecipeError
from surd.params import Params
from surd.paths import shipped
from surd.recipe.keys import Recipe
from surd.sources.kinds import SOURCES
from surd.untrusted import parse_yaml
from surd.url_secrets import secret_in

log = logging.getLogger("surd")


def shipped_recipes() -> dict[str, Path]:
    """The recipes that come with surd, by stem."""
    return {path.stem: path for path in sorted(shipped("pipelines").glob("*.yaml"))}


def find_recipe(name: str) -> Path:
    """The file a recipe argument means: a path, or the stem of a shipped recipe."""
    with contextlib.suppress(OSError):  # a name too long for a file
        if Path(name).is_file():
            return Path(name)
    shipped = shipped_recipes()
    if name in shipped:
        return shipped[name]
    near = difflib.get_close_matches(name, shipped, n=1)
    hint = f"did you mean {near[0]}?" if near else f"shipped recipes: {', '.join(shipped)}"
    raise RecipeError(f"{name}: neither a recipe file nor a shipped recipe; {hint}")


def load_recipe(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Read and validate a recipe; ``overrides`` are ``a.b.0.c=value`` with YAML values."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not UTF-8 text (byte {error.start})") from error
    raw = read_yaml(text, f"{path}: not valid YAML")
    if not isinstance(raw, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys; this is {_kind(raw)}")
    for override in overrides:
        _apply_override(raw, override)
    return validate_recipe(raw, str(path), _typed(overrides))


def read_yaml(text: str, wrong: str) -> Any:
    """Whatever YAML says, as plain values. Raises RecipeError that begins with `wrong`."""
    try:
        return parse_yaml(text)
    except yaml.YAMLError as error:
        raise RecipeError(f"{wrong}: {_yaml_problem(error)}") from error
    except RecursionError:
        raise RecipeError(f"{wrong}: nested too deeply") from None
    except (ValueError, TypeError, LookupError, ArithmeticError, AttributeError) as error:
        # PyYAML lets out what dates and numbers raise that are none: 2001-99-99, !!int x
        raise RecipeError(f"{wrong}: {type(error).__name__}: {error}"[:500]) from error


def override_recipe(
    recipe: Recipe, overrides: Sequence[str], options: Mapping[str, str] | None = None
) -> Recipe:
    """The recipe with some keys replaced. `options`: key -> the option that was typed instead of
    ``--set``, for errors."""
    raw = recipe.model_dump(mode="json")
    for override in overrides:
        _apply_override(raw, override)
    typed = _typed(overrides) | dict(options or {})
    return validate_recipe(raw, "--set", typed) if overrides else recipe


def _typed(overrides: Sequence[str]) -> dict[str, str]:
    return {override.partition("=")[0]: "--set" for override in overrides}


def replace_keys(recipe: Recipe, section: str, values: Mapping[str, Any]) -> Recipe:
    """The recipe with some keys of one section replaced. Raises RecipeError."""
    raw = recipe.model_dump(mode="json")
    raw[section] |= values
    return validate_recipe(raw, f"surd {section.replace('_', '-')}")


@dataclass(frozen=True)
class Difference:
    """A key in which two recipes differ, named as ``--set`` names it, and what each has there."""

    key: str
    ours: Any
    theirs: Any


def differences(ours: Recipe, theirs: Recipe) -> list[Difference]:
    """Every key in which two recipes differ, defaults included."""
    return list(_differing("", ours.model_dump(mode="json"), theirs.model_dump(mode="json")))


def _differing(key: str, ours: Any, theirs: Any) -> Iterator[Difference]:
    """Key by key in mappings of the same keys and in lists of as many mappings; else the whole."""
    if isinstance(ours, list) and isinstance(theirs, list):
        below = dict(enumerate(ours)), dict(enumerate(theirs))
        alike = all(isinstance(value, dict) for value in (*ours, *theirs))
    elif isinstance(ours, dict) and isinstance(theirs, dict):
        below = ours, theirs
        alike = ours.get("kind") == theirs.get("kind")
    else:
        below, alike = ({}, {}), False
    if alike and below[0].keys() == below[1].keys():
        for name, value in below[0].items():
            yield from _differing(f"{key}.{name}".lstrip("."), value, below[1][name])
    elif ours != theirs:
        yield Difference(key, ours, theirs)


def stored_recipe(raw: Mapping[str, Any], where: str) -> Recipe:
    """A recipe that surd itself saved, maybe an earlier version: keys that are gone since are left
    out, and told where they said something. Raises RecipeError."""
    kept, told = dict(raw), []
    for section, field in Recipe.model_fields.items():
        model, values = _model_in(field.annotation), raw.get(section)
        if model is None or not issubclass(model, Params) or not isinstance(values, Mapping):
            continue
        kept[section] = {key: value for key, value in values.items() if key not in model.removed}
        told += [
            f"{section}.{key} ({json.dumps(values[key])}, now {json.dumps(value)})"
            for key, value in model.removed.items()
            if values.get(key, value) != value
        ]
    if told:
        log.warning("%s: left out, since this version no longer has it: %s", where, ", ".join(told))
    return validate_recipe(kept, where)


def validate_recipe(
    raw: Mapping[str, Any], where: str, typed: Mapping[str, str] | None = None
) -> Recipe:
    """Raises RecipeError naming every wrong key of ``where``, one line each. `typed`: key -> the
    option that set it, which is named in place of ``where``."""
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        lines = [
            f"{_blamed(problem, typed or {}) or where}: {_describe(problem)}"
            for problem in error.errors()
        ]
        raise RecipeError("\n".join(dict.fromkeys(lines))) from error


def _blamed(problem: Any, typed: Mapping[str, str]) -> str | None:
    """The option behind a problem: of its key, of one above it, or of one below."""
    key = ".".join(map(str, _place(list(problem["loc"])))) + "."
    near = [name for name in typed if key.startswith(f"{name}.") or f"{name}.".startswith(key)]
    return typed[max(near, key=len)] if near else None


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).split("\n", 1)[0]
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else problem


def _kind(value: Any) -> str:
    return "empty" if value is None else f"a {type(value).__name__}"


def _apply_override(raw: dict[str, Any], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals or not path:
        raise RecipeError(f"--set {override}: expected KEY=VALUE, as in sources.0.limit=100")
    value = read_yaml(text, f"--set {override[:200]}: not a YAML value")
    *parents, last = path.split(".")
    node: Any = raw
    for key in parents:
        node = _child(node, key, override)
    if isinstance(node, list):
        node[_index(node, last, override)] = value
    else:
        node[last] = value


def _child(node: Any, key: str, override: str) -> Any:
    if isinstance(node, list):
        child = node[_index(node, key, override)]
    else:
        if node.get(key) is None:
            node[key] = {}
        child = node[key]
    if not isinstance(child, dict | list):
        raise RecipeError(f"--set {override}: {key} is a value and has no keys")
    return child


def _index(node: list[Any], key: str, override: str) -> int:
    if key.isdecimal() and len(key) < 10 and int(key) < len(node):
        return int(key)
    raise RecipeError(f"--set {override}: {key} is not an index of a list of {len(node)}")


def _describe(problem: Any) -> str:
    """One line for one pydantic error: where, what, and the mend."""
    location = list(problem["loc"])
    place = _place(location)
    where = "".join(f"[{k}]" if isinstance(k, int) else f".{k}" for k in place).lstrip(".")
    if problem["type"] == "extra_forbidden":
        model = _model_at(location[:-1])
        removed = getattr(model, "removed", {})
        if location[-1] in removed:
            now = json.dumps(removed[location[-1]])
            return (
                f"{where}: this key was removed, and surd now always behaves as with {now}; "
                "delete it"
            )
        known = list(model.model_fields) if model else []
        near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
        mend = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(known)}"
        return f"{where}: unknown key; {mend}"
    if problem["type"] == "union_tag_invalid":
        tag = problem["ctx"]["tag"]
        near = difflib.get_close_matches(tag, SOURCES, n=1)
        mend = f"did you mean {near[0]}?" if near else f"known sources: {', '.join(SOURCES)}"
        return f"{where}.kind: unknown source {tag}; {mend}"
    if problem["type"] == "union_tag_not_found":
        return f"{where}.kind: missing; one of {', '.join(SOURCES)}"
    message = problem["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    given = problem["input"]
    hidden = isinstance(given, dict | list) or "@" in str(given) or secret_in(str(given))
    shown = "" if hidden else f", not {given!r}"
    return f"{where}: {message}{shown}{_or_null(location)}"


_NULL = re.compile(r"\b(?:null|default): ([^;.]+)")


def _or_null(location: Sequence[str | int]) -> str:
    """Of a key that takes null: what that means."""
    model: type[BaseModel] | None = Recipe
    if location[:1] == ["sources"]:
        model = SOURCES[str(location[2])][0] if len(location) > 2 else None
        location = location[3:]
    owner, field = model, None
    for key in location:
        if isinstance(key, int):
            return ""
        if model is None or key not in model.model_fields:  # a tag of a union
            break
        owner, field = model, model.model_fields[key]
        model = _model_in(field.annotation)
    if field is None or type(None) not in get_args(field.annotation):
        return ""
    meaning = _NULL.search(field.description or "")
    told = meaning[1] if meaning else getattr(owner, "null", "")
    return "; null switches it off" if told == "off" else f"; null: {told}" if told else "; or null"


def _place(location: Sequence[str | int]) -> list[str | int]:
    """A pydantic location as keys of the recipe, without the tags of unions."""
    keys: list[str | int] = list(location)
    if keys[:1] == ["sources"] and len(keys) > 2:
        del keys[2]
    return [k for k in keys if isinstance(k, int) or (k.isidentifier() and k not in _UNION_TAGS)]


_UNION_TAGS = {"bool", "int", "str", "float"}


def _model_at(location: Sequence[str | int]) -> type[BaseModel] | None:
    """What a place in a recipe is an instance of."""
    model: type[BaseModel] = Recipe
    if location[:1] == ["sources"]:
        model = SOURCES[str(location[2])][0]
        location = location[3:]
    for key in location:
        annotation = model.model_fields[str(key)].annotation if isinstance(key, str) else None
        found = _model_in(annotation)
        if found is None:
            return None
        model = found
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    for part in getattr(annotation, "__args__", ()):
        found = _model_in(part)
        if found is not None:
            return found
    return None
