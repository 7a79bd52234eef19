"""The columns of a part, whoever wrote it: of the types of its group, and text that is UTF-8."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import pyarrow as pa

from surd.errors import one_line
from surd.store.schema import GROUPS
from surd.store.vectors import restored, restored_type, stored_schema

_ID_CHARS = 32
_OF_VECTORS: dict[str, pa.DataType | None] = {
    **dict.fromkeys(("id", "status", "simple_prompt"), pa.string()),
    "tokens": pa.int32(),
    "others": pa.list_(pa.struct([("text", pa.string()), ("status", pa.string())])),
    **dict.fromkeys(("embedding", "other_embeddings")),
}
"""Column -> its type; None: vectors, or lists of them."""


def check_types(group: str, schema: pa.Schema) -> None:
    """Raise ArrowInvalid where a column of a part's file is of another type than in its group."""
    if group.startswith("llm/"):
        _check_vectors(schema)
    expected = GROUPS.get(group, pa.schema([]))
    stored = _stored(group)
    if schema.equals(stored):
        return
    for field, in_file in zip(expected, stored, strict=True):
        places = schema.get_all_field_indices(field.name)
        if len(places) > 1:
            raise pa.ArrowInvalid(f"it has {field.name} twice")
        for place in places:
            type_ = schema.field(place).type
            if not (_is_alike(type_, in_file.type) or _is_alike(type_, field.type)):
                raise pa.ArrowInvalid(f"{field.name} is {one_line(type_, 100)}, not {field.type}")


@cache
def _stored(group: str) -> pa.Schema:
    return stored_schema(GROUPS.get(group, pa.schema([])))


def _check_vectors(schema: pa.Schema) -> None:
    """Of the vectors of a language model, whose width depends on the model."""
    for name, wanted in _OF_VECTORS.items():
        for place in schema.get_all_field_indices(name):
            found = restored_type(schema.field(place).type)
            if wanted is None:
                inner = found.value_type if pa.types.is_list(found) else found
                is_right = pa.types.is_fixed_size_list(inner)
                is_right = is_right and pa.types.is_float16(inner.value_type)
            else:
                is_right = _is_alike(found, wanted)
            if not is_right:
                raise pa.ArrowInvalid(f"{name} is {one_line(found, 100)}")


def _is_alike(found: pa.DataType, wanted: pa.DataType) -> bool:
    """Whether it is the same; a struct of an earlier version may lack fields."""
    if pa.types.is_list(found) and pa.types.is_list(wanted):
        return _is_alike(found.value_type, wanted.value_type)
    if pa.types.is_struct(found) and pa.types.is_struct(wanted):
        return all(
            _is_alike(field.type, wanted.field(field.name).type)
            for field in map(found.field, range(found.num_fields))
            if wanted.get_field_index(field.name) >= 0
        )
    return bool(found.equals(wanted))


def checked(group: str, table: pa.Table, names: Sequence[str] | None = None) -> pa.Table:
    """Rows of a part, with vectors as lists. Of the columns `names`, those that a part of an
    earlier version lacks are null.

    Raises ArrowInvalid for text that is not UTF-8, for ids that are none, and where a value is
    missing that every row has.
    """
    table = restored(table)
    check_texts(table)
    expected = GROUPS.get(group)
    if expected is None:
        return table
    columns = set(table.column_names)
    for field in expected:
        there = field.name in columns
        if not field.nullable and there and table[field.name].null_count:
            raise pa.ArrowInvalid(f"a row without {field.name}")
        if names is not None and field.name in names and not there:
            if not field.nullable:
                raise pa.ArrowInvalid(f"it has no column {field.name}")
            table = table.append_column(field, pa.nulls(len(table), field.type))
    if group == "samples" and "id" in columns and not _are_ids(table["id"]):
        raise pa.ArrowInvalid("an id that is none")  # others are compared with these
    return table


def _are_ids(column: pa.ChunkedArray) -> bool:
    """Whether all are 32 hexadecimal digits. A regular expression would take longer than reading
    them does."""
    for chunk in column.chunks:
        _, offsets, data = chunk.buffers()
        bounds = np.frombuffer(offsets, np.int32)[chunk.offset : chunk.offset + len(chunk) + 1]
        if (np.diff(bounds) != _ID_CHARS).any():
            return False
        chars = np.frombuffer(data or b"", np.uint8)[bounds[0] : bounds[-1]]
        if not ((chars - ord("0") < 10) | (chars - ord("a") < 6)).all():  # below wraps around
            return False
    return True


def check_texts(table: pa.Table) -> None:
    """Raise ArrowInvalid for text that is not UTF-8, which Python could not read."""
    for field in table.schema:
        if all(map(_is_ascii, table[field.name].chunks)):
            continue  # Arrow's own check takes a third of the time of reading
        try:
            table[field.name].validate(full=True)
        except pa.ArrowInvalid as error:
            raise pa.ArrowInvalid(f"{field.name}: text that is not UTF-8") from error


def _is_ascii(array: pa.Array) -> bool:
    """Whether all texts are, and what lies beside them in memory; what has none is."""
    if pa.types.is_struct(array.type):
        return all(_is_ascii(array.field(place)) for place in range(array.type.num_fields))
    if pa.types.is_list(array.type) or pa.types.is_fixed_size_list(array.type):
        return _is_ascii(array.values)
    if not (pa.types.is_string(array.type) or pa.types.is_large_string(array.type)):
        return True
    chars = np.frombuffer(array.buffers()[2] or b"", np.uint8)
    return bool(chars.max(initial=0) < 128)
