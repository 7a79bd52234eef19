"""Columns and rows of one file: CSV, TSV, JSON Lines or Parquet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from surd.errors import SourceError
from surd.files.text_rows import MAX_CHARS, delimited_rows, json_object

BATCH_ROWS = 1000
HEAD_ROWS = 100
"""JSON Lines have no header: the columns are those of so many rows."""
SUFFIXES = {
    "csv": (".csv",),
    "tsv": (".tsv", ".tab"),
    "jsonl": (".jsonl", ".ndjson"),
    "parquet": (".parquet", ".pq"),
}

Row = Mapping[str, Any]
Rows = Iterator[tuple[int, Row | str]]
"""Each row's number, counted from 0 with the bad ones, and its values, or what is wrong."""


@dataclass(frozen=True)
class Table:
    """One file: its columns, and a function from a row number to the rows from there on.

    ``rows`` also takes the columns that are in use: no others are read when they hold bytes.
    """

    columns: Sequence[str]
    rows: Callable[[int, Collection[str]], Rows]


def format_of(path: Path, asked: str) -> str:
    """The format asked for, or with "auto" that of the file's extension. Raises SourceError."""
    for name, suffixes in SUFFIXES.items():
        if asked == name or (asked == "auto" and path.name.lower().endswith(suffixes)):
            return name
    raise SourceError(
        f"{path}: the file name does not show its format; set format to one of "
        f"{', '.join(SUFFIXES)}"
    )


def _open_csv(path: Path, delimiter: str = ",") -> Table:
    """A table with a header line, quoted as RFC 4180 says."""
    _refuse_utf16(path)
    _, header = next(_csv_rows(path, delimiter), (1, []))
    if isinstance(header, str) or not _is_unicode(header):
        raise SourceError(
            f"{path}: not a table: its first line is not UTF-8 text; save it as UTF-8"
        )
    names = [name.strip() or f"column_{i}" for i, name in enumerate(header, 1)]

    def rows(start: int, _used: Collection[str]) -> Rows:
        for number, (line, values) in enumerate(islice(_csv_rows(path, delimiter), 1, None)):
            if number < start:
                continue
            if isinstance(values, str):
                yield number, f"line {line}: {values}"
            elif len(values) != len(names):
                yield number, f"line {line}: {len(values)} fields, but the header has {len(names)}"
            elif not _is_unicode(values):
                yield number, f"line {line}: not UTF-8"
            else:
                yield number, dict(zip(names, values, strict=True))

    return Table(names, rows)


def _csv_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """NULs are left out: no text of ours has a use for them."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = (line.replace("\0", "") for line in iter(lambda: file.readline(MAX_CHARS), ""))
        yield from delimited_rows(lines, delimiter)


def _is_unicode(values: Sequence[str]) -> bool:
    """Whether no byte of the fields had to be escaped as a lone surrogate."""
    try:
        return all(value.isascii() or value.encode("utf-8") for value in values)
    except UnicodeEncodeError:
        return False


def _refuse_utf16(path: Path) -> None:
    with path.open("rb") as file:
        if file.read(2) in (b"\xff\xfe", b"\xfe\xff"):
            raise SourceError(f"{path}: UTF-16 text; save it as UTF-8")


def _open_jsonl(path: Path) -> Table:
    """One JSON object a line. The columns are those of the first rows."""
    _refuse_utf16(path)
    names: dict[str, None] = {}
    bad = ""
    for _, row in islice(_jsonl_rows(path, 0), HEAD_ROWS):
        if isinstance(row, str):
            bad = bad or row
        else:
            names |= dict.fromkeys(row)
    if bad and not names:
        raise SourceError(f"{path}: not JSON Lines: {bad}; write one object per line")
    return Table(list(names), lambda start, _used: _jsonl_rows(path, start))


def _jsonl_rows(path: Path, start: int) -> Rows:
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_CHARS), b"")):
            too_long = len(line) == MAX_CHARS and not line.endswith(b"\n")
            while too_long and (rest := file.readline(MAX_CHARS)) and not rest.endswith(b"\n"):
                pass
            if number < start or not line.strip():
                continue
            row = "too long" if too_long else json_object(line)
            yield number, f"line {number + 1}: {row}" if isinstance(row, str) else row


def open_parquet(path: Path | str) -> Table:
    """A Parquet file, also at a url of fsspec's; columns with bytes deeper inside are hidden."""
    schema = parquet_schema(path)
    fields = [field for field in schema if not _hides_bytes(field.type)]

    def rows(start: int, used: Collection[str]) -> Rows:
        names = [f.name for f in fields if f.name in used or not _is_bytes(f.type)]
        return _parquet_rows(path, names, start)

    return Table([field.name for field in fields], rows)


def parquet_schema(path: Path | str) -> pa.Schema:
    """The columns of a Parquet file. Raises SourceError for what is none."""
    try:
        return pq.read_schema(parquet_source(path))
    except pa.ArrowException as error:
        raise SourceError(f"{path}: not a Parquet file ({_line(error)}); copy it again") from error


def parquet_source(path: Path | str) -> Any:
    """What pyarrow reads of ``path``: a local path, or the open file behind a url."""
    is_url = isinstance(path, str) and "://" in path
    return fsspec.open(path, "rb").open() if is_url else path


def _parquet_rows(path: Path | str, names: list[str], start: int) -> Rows:
    if not names:  # nothing but bytes: Arrow would count no rows
        with pq.ParquetFile(parquet_source(path)) as file:
            yield from ((i, {}) for i in range(start, file.metadata.num_rows))
        return
    for number, batch in parquet_batches(path, names, start, BATCH_ROWS):
        yield from batch_rows(batch, number)


def parquet_batches(
    path: Path | str, names: list[str], start: int, rows: int
) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Batches of at most so many rows from ``start`` on, each with the number of its first.

    Row groups before ``start`` are not read. Raises SourceError for one that is damaged.
    """
    number = 0
    with pq.ParquetFile(parquet_source(path), buffer_size=1 << 20) as file:
        for group in range(file.num_row_groups):
            group_rows = file.metadata.row_group(group).num_rows
            if number + group_rows <= start:
                number += group_rows
                continue
            try:
                for batch in file.iter_batches(rows, [group], names):
                    skip = min(max(start - number, 0), batch.num_rows)
                    yield number + skip, batch.slice(skip)
                    number += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                raise SourceError(
                    f"{path}: row group {group} is damaged ({_line(error)}); copy the file again"
                ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def batch_rows(batch: pa.RecordBatch, first: int) -> Rows:
    """Numbered rows as Python values; of text that is not UTF-8 what is wrong with it."""
    return _as_python(_whole_microseconds(batch), first)


def _as_python(batch: pa.RecordBatch, first: int) -> Rows:
    try:
        yield from enumerate(batch.to_pylist(), first)
    except (ValueError, OverflowError) as error:
        if batch.num_rows == 1:
            yield first, f"row {first + 1}: {error}"
            return
        for i in range(batch.num_rows):  # one by one, since only some are bad
            yield from _as_python(batch.slice(i, 1), first + i)


def _whole_microseconds(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Times of nanoseconds cut to what Python's datetime can hold."""
    columns = [
        column.cast(pa.timestamp("us", column.type.tz), safe=False)
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns"
        else column
        for column in batch.columns
    ]
    return pa.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _is_bytes(type_: pa.DataType) -> bool:
    types = pa.types
    return any(
        (types.is_binary(type_), types.is_large_binary(type_), types.is_fixed_size_binary(type_))
    )


def _hides_bytes(type_: pa.DataType) -> bool:
    """Whether bytes lie deeper inside, as in the ``image`` column of a Hugging Face dataset."""
    inner = [type_.field(i).type for i in range(type_.num_fields)]
    return any(_is_bytes(part) or _hides_bytes(part) for part in inner)


OPEN: dict[str, Callable[[Path], Table]] = {
    "csv": _open_csv,
    "tsv": partial(_open_csv, delimiter="\t"),
    "jsonl": _open_jsonl,
    "parquet": open_parquet,
}
"""Format -> what opens such a file, or raises SourceError for one that is none."""
