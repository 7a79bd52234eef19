"""JSON Schemas of everything surd writes: the groups, the recipe and the manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from surd.recipe.keys import Recipe
from surd.store.schema import GROUPS
from surd.store.workspace import Manifest

_JSON_TYPES: dict[str, dict[str, Any]] = {
    "string": {"type": "string"},
    "halffloat": {"type": "number"},
    "large_binary": {"type": "string", "contentEncoding": "base64"},
    "bool": {"type": "boolean"},
    "int8": {"type": "integer"},
    "int16": {"type": "integer"},
    "int32": {"type": "integer"},
    "int64": {"type": "integer"},
    "float": {"type": "number"},
    "double": {"type": "number"},
}


def _json_type(type_: pa.DataType) -> dict[str, Any]:
    if pa.types.is_list(type_):
        return {"type": "array", "items": _json_type(type_.value_type)}
    if pa.types.is_struct(type_):
        return {
            "type": "object",
            "properties": {f.name: _json_type(f.type) for f in type_},
        }
    return dict(_JSON_TYPES[str(type_)])


def json_schema_of(name: str, schema: pa.Schema) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of one row of ``schema``."""
    properties: dict[str, Any] = {}
    for field in schema:
        described = _json_type(field.type)
        if field.nullable:
            described["type"] = [described["type"], "null"]
        described["description"] = field.metadata[b"doc"].decode()
        properties[field.name] = described
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": name,
        "type": "object",
        "properties": properties,
        "required": [field.name for field in schema if not field.nullable],
        "additionalProperties": False,
    }


def json_schemas() -> dict[str, dict[str, Any]]:
    """Every schema surd publishes, by name: the groups, the recipe and the manifest."""
    draft = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    schemas = {group: json_schema_of(group, schema) for group, schema in GROUPS.items()}
    schemas["recipe"] = draft | Recipe.model_json_schema()
    schemas["manifest"] = draft | Manifest.model_json_schema()
    return schemas


def write_json_schemas(folder: Path) -> list[Path]:
    """Write each schema to ``folder/NAME.json``; return the paths."""
    paths = []
    for name, schema in json_schemas().items():
        path = folder / f"{name}.json"
        path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        paths.append(path)
    return paths
