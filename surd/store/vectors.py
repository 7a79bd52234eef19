"""How parts store vectors: the bytes of their float16 numbers, little-endian, as one value.

Parquet says of every number in a list whether it is there and whether the list goes on
(https://parquet.apache.org/docs/file-format/nestedencoding/), which takes several times as long to
read and to write as the numbers. Whoever reads or writes a part sees lists, also where a part of an
earlier version has them in its file.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_NUMBER_BYTES = 2


def stored_schema(schema: pa.Schema) -> pa.Schema:
    """Of the file of a part that has this schema."""
    return pa.schema([field.with_type(_stored_type(field.type)) for field in schema])


def stored(table: pa.Table) -> pa.Table:
    """Lists of float16, which have no nulls in them, as bytes."""
    return _replaced(table, _stored_type, _stored)


def restored(table: pa.Table) -> pa.Table:
    """Bytes as lists of float16; their numbers are not copied."""
    return _replaced(table, restored_type, _restored)


def _replaced(
    table: pa.Table,
    type_of: Callable[[pa.DataType], pa.DataType],
    array_of: Callable[[pa.Array], pa.Array],
) -> pa.Table:
    for place, field in enumerate(table.schema):
        type_ = type_of(field.type)
        if type_ != field.type:
            column = pa.chunked_array(map(array_of, table.column(place).chunks), type_)
            table = table.set_column(place, field.with_type(type_), column)
    return table


def _stored_type(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_fixed_size_list(type_) and pa.types.is_float16(type_.value_type):
        return pa.binary(type_.list_size * _NUMBER_BYTES)
    if not pa.types.is_list(type_):
        return type_
    if pa.types.is_float16(type_.value_type):
        return pa.binary()
    inner = _stored_type(type_.value_type)
    return type_ if inner == type_.value_type else pa.list_(inner)


def restored_type(type_: pa.DataType) -> pa.DataType:
    """Of a column, from its type in the file."""
    if pa.types.is_fixed_size_binary(type_):
        return pa.list_(pa.float16(), type_.byte_width // _NUMBER_BYTES)
    if pa.types.is_binary(type_):
        return pa.list_(pa.float16())
    if not pa.types.is_list(type_):
        return type_
    inner = restored_type(type_.value_type)
    return type_ if inner == type_.value_type else pa.list_(inner)


def _stored(array: pa.Array) -> pa.Array:
    """Lists, their nulls aside, then with a null in each place that had one."""
    there = array.drop_null() if array.null_count else array
    values = there.flatten()
    lengths = pc.list_value_length(there).to_numpy()
    ends = np.concatenate([[0], np.cumsum(lengths)])
    type_ = _stored_type(array.type)
    if pa.types.is_list(type_):
        dense = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), _stored(values))
    else:
        numbers = pa.py_buffer(values.to_numpy())
        if pa.types.is_fixed_size_binary(type_):
            buffers = [None, numbers]
        else:
            buffers = [None, pa.py_buffer((ends * _NUMBER_BYTES).astype(np.int32)), numbers]
        dense = pa.Array.from_buffers(type_, len(there), buffers)
    if there is array:
        return dense
    valid = array.is_valid().to_numpy(zero_copy_only=False)
    return dense.take(pa.array(np.cumsum(valid) - 1, mask=~valid))


def _restored(array: pa.Array) -> pa.Array:
    type_ = restored_type(array.type)
    if not len(array):
        return pa.array([], type_)  # of which buffers may be missing
    if pa.types.is_list(array.type):
        buffers, inner = array.buffers()[:2], _restored(array.values)
    else:
        valid, *offsets, numbers = array.buffers()
        bounds = [np.frombuffer(buffer, np.int32) // _NUMBER_BYTES for buffer in offsets]
        buffers = [valid, *map(pa.py_buffer, bounds)]
        count = numbers.size // _NUMBER_BYTES if numbers else 0
        inner = pa.Array.from_buffers(pa.float16(), count, [None, numbers])
    facts = (array.null_count, array.offset, [inner])
    return pa.Array.from_buffers(type_, len(array), buffers, *facts)
