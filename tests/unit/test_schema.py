"""The published schemas: Arrow in the code, JSON Schema in schemas/."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from surd.dataset.columns import PUBLISHED
from surd.recipe.json_schema import json_schema_of, json_schemas, write_json_schemas
from surd.recipe.pipeline import STAGES, STYLES
from surd.store.schema import DIFFERENT, GROUPS, IMAGES, MADE_BY
from surd.store.workspace import Manifest

SCHEMAS = Path(__file__).parents[2] / "schemas"


def test_the_files_in_schemas_are_what_the_code_says() -> None:
    published = {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in SCHEMAS.glob("*.json")
    }
    assert published == json_schemas(), "run: surd schema --write schemas"


def test_every_group_the_recipe_and_the_manifest_are_published() -> None:
    assert set(json_schemas()) == {*GROUPS, "recipe", "manifest"}


def test_written_schemas_are_the_same_bytes_every_time(tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in write_json_schemas(tmp_path)}
    second = {path.name: path.read_bytes() for path in write_json_schemas(tmp_path)}
    assert first == second
    assert all(content.endswith(b"}\n") for content in first.values())


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_is_keyed_by_id_and_every_column_is_explained(group: str) -> None:
    schema = GROUPS[group]
    assert schema.names[0] == "id"
    assert not schema.field("id").nullable
    assert all(field.metadata[b"doc"] for field in schema)


@pytest.mark.parametrize("group", GROUPS)
def test_a_row_schema_lists_every_column_and_requires_those_without_null(group: str) -> None:
    described = json_schema_of(group, GROUPS[group])
    assert list(described["properties"]) == GROUPS[group].names
    assert described["required"] == [f.name for f in GROUPS[group] if not f.nullable]
    assert described["additionalProperties"] is False


def test_columns_become_json_types_that_may_be_null() -> None:
    properties = json_schema_of("images", IMAGES)["properties"]
    assert properties["id"]["type"] == "string"
    assert properties["status"]["type"] == "string"
    assert properties["detail"]["type"] == ["string", "null"]
    assert properties["width"]["type"] == ["integer", "null"]
    assert properties["resized"]["type"] == ["boolean", "null"]
    assert properties["bytes"]["contentEncoding"] == "base64"


def test_lists_of_structs_become_arrays_of_objects() -> None:
    networks = json_schema_of("prompts", GROUPS["prompts"])["properties"]["networks"]
    assert networks["type"] == ["array", "null"]
    assert set(networks["items"]["properties"]) == {"kind", "name", "weight"}


def test_image_bytes_are_the_only_column_the_digest_leaves_out() -> None:
    large = [(g, f.name) for g, s in GROUPS.items() for f in s if pa.types.is_large_binary(f.type)]
    assert large == [("images", "bytes")]
    assert "sha256" in IMAGES.names


def test_the_manifest_schema_names_what_a_manifest_holds() -> None:
    assert set(json_schemas()["manifest"]["properties"]) == set(Manifest.model_fields)


def test_the_recipe_schema_refuses_unknown_keys_everywhere() -> None:
    schema = json_schemas()["recipe"]
    objects = [schema, *schema["$defs"].values()]
    assert all(o["additionalProperties"] is False for o in objects if o.get("type") == "object")


def test_the_recipe_reference_in_docs_is_what_the_code_says() -> None:
    from tools.reference import recipe_reference

    page = Path(__file__).parents[2] / "docs" / "recipes.md"
    assert page.read_text(encoding="utf-8") == recipe_reference()


def test_every_group_names_the_stage_that_makes_it() -> None:
    made_by = {stage.group: stage.name for stage in STAGES}
    made_by |= {stage.group: "caption" for stage in STYLES.values()}
    assert {"samples": "collect"} | made_by == MADE_BY
    assert list(MADE_BY) == list(GROUPS)


def test_columns_of_texts_that_seldom_repeat_are_columns() -> None:
    """A column that was renamed would get a dictionary in silence."""
    of_groups = {path for schema in GROUPS.values() for path in _parquet_paths(schema)}
    assert of_groups | set(_parquet_paths(PUBLISHED)) >= DIFFERENT


def _parquet_paths(schema: pa.Schema) -> list[str]:
    file = io.BytesIO()
    pq.write_table(schema.empty_table(), file)
    columns = pq.read_metadata(file).schema
    return [columns.column(n).path for n in range(len(columns))]
