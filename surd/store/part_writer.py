"""Writing one part: row groups of a fixed size, checksums, and a digest of the rows."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from surd.store import vectors
from surd.store.checksums import FOOTER_KEY, ROW_KEYS, Summed, seal, unsealed
from surd.store.schema import DIFFERENT, FILE_ROWS, ROWS
from surd.store.storage import fsync

_BUFFER_BYTES = 1 << 17
"""Of what Arrow writes in many small pieces, each of which would wait for Python's lock."""
_FILE_PAGE_BYTES = 1 << 16
"""Of columns of files: nearly every file is a page of its own. Pages are copied and summed several
times while they are written, which is cheap as long as they fit the processor's cache."""


class PartWriter:
    """Collects rows into row groups of a fixed size, and their digest.

    What is written is synced to the disk in a thread, so that the end need not wait for it.
    """

    def __init__(self, path: Path, schema: pa.Schema, row_group_rows: int | None) -> None:
        self.rows = self._groups = 0
        self._path = path
        self._sync_thread = ThreadPoolExecutor(1, "surd-sync")
        self._syncing: Future[None] | None = None
        self._schema = schema
        self._pending: list[pa.Table] = []
        self._hash = hashlib.blake2b(digest_size=16)
        self._ids: list[pa.Table] = []
        self._header: dict[str, Any] = {}
        self._row_keys: npt.NDArray[np.uint64] | None = None
        small = [f for f in schema if not pa.types.is_large_binary(f.type)]
        self._small = [f.name for f in small]
        holds_files = len(small) < len(schema)
        usual = FILE_ROWS if holds_files else ROWS
        self._row_group_rows = row_group_rows or usual
        self._digest_rows = min(self._row_group_rows, usual)
        in_file = vectors.stored_schema(schema)
        leaves = [leaf for f in in_file for leaf in _leaves(f.name, f.type)]
        repetitive = [leaf for leaf, type_ in leaves if not _is_bytes(type_)]
        texts = [n for n, type_ in leaves if pa.types.is_string(type_) and n not in DIFFERENT]
        codec = "snappy" if holds_files else "zstd"  # of which each reader is costly to set up
        self._file = Summed(path)
        self._stream = pa.BufferedOutputStream(pa.PythonFile(self._file, "w"), _BUFFER_BYTES)
        self._finished = False
        self._writer = pq.ParquetWriter(
            self._stream,
            in_file,
            compression=dict.fromkeys(repetitive, codec),  # neither images nor vectors shrink
            use_dictionary=[] if holds_files else texts,
            write_statistics=repetitive,
            write_page_checksum=True,
            data_page_size=_FILE_PAGE_BYTES if holds_files else None,
            write_batch_size=1 if holds_files else None,  # rows after which a page may end
        )

    def write(self, table: pa.Table) -> None:
        """Append rows; ``table`` has exactly the part's schema."""
        self._pending.append(table.cast(self._schema))
        self.rows += table.num_rows
        while sum(t.num_rows for t in self._pending) >= self._row_group_rows:
            self._flush(self._row_group_rows)

    def describe(
        self,
        *,
        fingerprint: str,
        settings: str,
        inputs: dict[str, str],
        extra: dict[str, Any],
        row_keys: npt.NDArray[np.uint64] | None = None,
    ) -> None:
        """What the footer shall say; to be called before the part is finished. ``row_keys`` tell of
        each row what it was computed from."""
        self._row_keys = row_keys
        self._header = {
            "fingerprint": fingerprint,
            "settings": settings,
            "inputs": inputs,
            "extra": extra,
        }

    @property
    def digest(self) -> str:
        """Of the rows written so far, 32 hexadecimal digits."""
        return self._hash.hexdigest()

    def finish(self) -> None:
        """Write what is pending, and the footer's description."""
        if any(t.num_rows for t in self._pending) or self.rows == 0:
            self._flush(self._row_group_rows)
        self._check_sync()
        self._stream.flush()
        header = self._header | {
            "rows": self.rows,
            "ids": self._digest_of_ids(),
            "digest": self.digest,
            "crc32": unsealed(self._file.crc),
        }
        about = {FOOTER_KEY: json.dumps(header, sort_keys=True).encode()}
        if self._row_keys is not None:
            about[ROW_KEYS] = base64.b64encode(self._row_keys.astype("<u8").tobytes())
        self._writer.add_key_value_metadata(about)
        self._finished = True

    def close(self) -> None:
        """Close the file, finished or not."""
        try:
            self._writer.close()
            self._stream.close()
        finally:
            self._file.close()
            self._sync_thread.shutdown()
        if self._finished:
            seal(self._path)

    def _flush(self, rows: int) -> None:
        joined = pa.concat_tables(self._pending) if self._pending else self._schema.empty_table()
        group = _combined(joined.slice(0, rows))
        rest = joined.slice(rows)
        self._pending = [rest] if rest.num_rows else []
        _digest(self._hash, group.select(self._small), self._digest_rows)
        if "id" in group.column_names:
            self._ids.append(group.select(["id"]))
        if self._groups:
            self._sync()
        self._writer.write_table(vectors.stored(group), row_group_size=rows)
        self._groups += 1

    def _digest_of_ids(self) -> str:
        """The same for all groups, whatever the size of their row groups; empty without ids."""
        if not self._ids:
            return ""
        ids = pa.concat_tables(self._ids)
        digest = hashlib.blake2b(digest_size=16)
        _digest(digest, ids, max(1, len(ids)))
        return digest.hexdigest()

    def _sync(self) -> None:
        """Begin to sync the row groups so far; the last one is synced with the footer."""
        if self._syncing is None or self._syncing.done():
            self._check_sync()
            self._stream.flush()
            self._file.flush()
            self._syncing = self._sync_thread.submit(fsync, self._path)

    def _check_sync(self) -> None:
        """Raise what syncing met: the system tells of a lost write only once."""
        if self._syncing is not None:
            self._syncing.result()


def _combined(table: pa.Table) -> pa.Table:
    """Columns in one chunk each, on which Parquet's pages depend; but files, of which each is a
    page, are not copied."""
    columns = [
        column if pa.types.is_large_binary(column.type) else column.combine_chunks()
        for column in table.columns
    ]
    return pa.Table.from_arrays(columns, schema=table.schema)


def _leaves(path: str, type_: pa.DataType) -> Iterator[tuple[str, pa.DataType]]:
    """Parquet's names of the leaf columns below an Arrow field, and their types."""
    if _is_list(type_):
        yield from _leaves(f"{path}.list.element", type_.value_type)
    elif pa.types.is_struct(type_):
        for field_ in type_:
            yield from _leaves(f"{path}.{field_.name}", field_.type)
    else:
        yield path, type_


def _is_bytes(type_: pa.DataType) -> bool:
    of_one_size = pa.types.is_fixed_size_binary(type_)
    return bool(of_one_size or pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


def _is_list(type_: pa.DataType) -> bool:
    return bool(pa.types.is_list(type_) or pa.types.is_fixed_size_list(type_))


def _digest(digest: hashlib.blake2b, table: pa.Table, rows: int) -> None:
    """Add a table's content, so many rows at a time, by their columns."""
    bounds = np.minimum(np.arange(0, len(table) + rows, rows), len(table))
    columns = (column.combine_chunks() for column in table.columns)
    pieces = [piece for column in columns for piece in _canonical(column, bounds)]
    for some in zip(*pieces, strict=True):
        digest.update(b"".join(some))


def _canonical(column: pa.Array, bounds: npt.NDArray[np.int64]) -> Iterator[list[bytes]]:
    """Bytes equal for equal rows, piece by piece, each cut at the rows ``bounds`` ``[k + 1]``.

    Arrow's own buffers will not do: padding, unused bits and slots of nulls may differ.
    """
    is_null = column.is_null().to_numpy(zero_copy_only=False)
    yield _cut(is_null, bounds)
    kind = column.type
    if pa.types.is_struct(kind):
        for field in column.flatten():
            yield from _canonical(field, bounds)
    elif _is_list(kind):
        lengths = pc.list_value_length(column).fill_null(0).to_numpy()
        yield _cut(lengths, bounds)
        yield from _canonical(column.flatten(), _ends(lengths)[bounds])
    elif pa.types.is_string(kind) or pa.types.is_binary(kind):
        lengths = pc.binary_length(column).fill_null(0).to_numpy()
        yield _cut(lengths, bounds)
        yield _cut(_characters(column), _ends(lengths)[bounds])
    else:
        there = column.drop_null().to_numpy(zero_copy_only=False)
        yield _cut(there, _ends(~is_null)[bounds])


def _characters(column: pa.Array) -> npt.NDArray[np.uint8]:
    text = pc.cast(column.drop_null(), pa.large_binary())
    _, offsets, data = text.buffers()
    if not len(text) or not data:
        return np.zeros(0, np.uint8)
    first, last = np.frombuffer(offsets, np.int64)[[text.offset, text.offset + len(text)]]
    return np.frombuffer(data, np.uint8)[first:last]


def _ends(lengths: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])


def _cut(values: npt.NDArray[Any], bounds: npt.NDArray[np.int64]) -> list[bytes]:
    return [values[start:end].tobytes() for start, end in pairwise(bounds.tolist())]
