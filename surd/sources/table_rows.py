"""Columns and rows of one file: CSV, TSV, JSON, JSON Lines or Parquet."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from surd.errors import SourceError, one_line
from surd.files.parquet_pages import BombError, Group, check_group, check_rows, read_groups
from surd.files.text_encoding import encoding_of
from surd.files.text_rows import (
    HEAD_LINES,
    MAX_CHARS,
    Layout,
    delimited_rows,
    json_object,
    layout_of,
)
from surd.sources.json_tables import rows_of
from surd.untrusted import TooDeepError, parse_json

BATCH_ROWS = 1000
HEAD_ROWS = 100
"""JSON Lines have no header: the columns are those of so many rows."""
MAX_JSON_BYTES = 2_000_000_000
SUFFIXES = {
    "csv": (".csv",),
    "tsv": (".tsv", ".tab"),
    "jsonl": (".jsonl", ".ndjson"),
    "parquet": (".parquet", ".pq"),
    "json": (".json",),
}
_SAMPLE_BYTES = 1 << 16

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
    has_header: bool = True
    narrow: Callable[[Collection[str]], Rows] | None = None
    """The rows with these columns only, where that is less work."""


def format_of(path: Path, asked: str) -> str:
    """The format asked for, or with "auto" that of the file's extension. Raises SourceError."""
    for name, suffixes in SUFFIXES.items():
        if asked == name or (asked == "auto" and path.name.lower().endswith(suffixes)):
            return name
    raise SourceError(
        f"{path}: the file name does not show its format; set format to one of "
        f"{', '.join(SUFFIXES)}"
    )


def open_table(
    path: Path, format_: str, known: Collection[str] = (), delimiter: str | None = None
) -> Table:
    """A file in one of ``SUFFIXES``' formats. Raises SourceError for one that is none.

    ``known`` are names that columns of delimited text may have, ``delimiter`` is what stands
    between them; default: as the file's first rows show.
    """
    if format_ in ("csv", "tsv"):
        return _open_delimited(path, known, delimiter, "\t" if format_ == "tsv" else ",")
    if format_ == "parquet":
        return open_parquet(path)
    return _open_jsonl(path) if format_ == "jsonl" else _open_json(path)


def _encoding(path: Path) -> str:
    """The encoding of a file's text. Raises SourceError; not for a few bytes that are damaged."""
    with path.open("rb") as file:
        sample = file.read(_SAMPLE_BYTES)
        whole = not file.read(1)
    try:
        return encoding_of(sample, whole=whole)
    except ValueError as error:
        damaged = sum(char >= "\udc80" for char in sample.decode("utf-8", "surrogateescape"))
        if damaged * 20 <= len(sample) and sample.count(0) * 20 <= len(sample):
            return "utf-8-sig"
        raise SourceError(f"{path}: {error}") from error


def _open_text(path: Path, encoding: str) -> TextIO:
    """Of bytes that do not fit, lone surrogates or U+FFFD are left, by which their row is bad."""
    errors = "replace" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"
    encoding = "utf-8-sig" if encoding == "utf-8" else encoding
    return path.open(encoding=encoding, errors=errors, newline="")


def _open_delimited(path: Path, known: Collection[str], delimiter: str | None, usual: str) -> Table:
    """Rows quoted as RFC 4180 says, with a header line or without."""
    encoding = _encoding(path)
    with _open_text(path, encoding) as file:
        head = list(islice(_lines(file), HEAD_LINES))
    layout = layout_of(head, known, delimiter, usual)
    if layout is None:
        return Table([], lambda start, _used: iter(()))
    if not _is_unicode(layout.names):
        raise SourceError(
            f"{path}: not a table: its first line is not UTF-8 text; save it as UTF-8"
        )
    return Table(
        layout.names,
        lambda start, _used: _delimited_rows(path, encoding, layout, start),
        layout.has_header,
        lambda used: _narrow_rows(path, encoding, layout, used),
    )


def _lines(file: TextIO) -> Iterator[str]:
    """NULs are left out: no text of ours has a use for them."""
    return (line.replace("\0", "") for line in iter(lambda: file.readline(MAX_CHARS), ""))


def _delimited_rows(path: Path, encoding: str, layout: Layout, start: int) -> Rows:
    names = layout.names
    with _open_text(path, encoding) as file:
        for number, (line, values) in enumerate(_cells(file, layout)):
            where = f"line {line + layout.skipped_lines}"
            if number < start:
                continue
            if isinstance(values, str):
                yield number, f"{where}: {values}"
            elif len(values) != len(names):
                yield number, f"{where}: {len(values)} fields, but the header has {len(names)}"
            elif not _is_unicode(values):
                yield number, f"{where}: not UTF-8"
            else:
                yield number, dict(zip(names, values, strict=True))


def _narrow_rows(path: Path, encoding: str, layout: Layout, used: Collection[str]) -> Rows:
    """Some columns of the rows that have all, be they UTF-8 or not."""
    places = [(name, layout.names.index(name)) for name in used]
    with _open_text(path, encoding) as file:
        for number, (_, values) in enumerate(_cells(file, layout)):
            if not isinstance(values, str) and len(values) == len(layout.names):
                yield number, {name: values[place] for name, place in places}


def _cells(file: TextIO, layout: Layout) -> Iterator[tuple[int, list[str] | str]]:
    """Line number and cells of each row below the header."""
    lines = islice(_lines(file), layout.skipped_lines, None)
    return islice(delimited_rows(lines, layout.delimiter), int(layout.has_header), None)


def _is_unicode(values: Iterable[str]) -> bool:
    """Whether every byte of the fields could be decoded."""
    try:
        return all(
            value.isascii() or ("\ufffd" not in value and value.encode("utf-8")) for value in values
        )
    except UnicodeEncodeError:
        return False


def _open_jsonl(path: Path) -> Table:
    """One JSON object a line. The columns are those of the first rows."""
    encoding = _encoding(path)
    with _open_text(path, encoding) as file:
        if file.read(_SAMPLE_BYTES).lstrip().startswith("["):
            return _open_json(path)
    names: dict[str, None] = {}
    bad = ""
    for _, row in islice(_jsonl_rows(path, encoding, 0), HEAD_ROWS):
        if isinstance(row, str):
            bad = bad or row
        else:
            names |= dict.fromkeys(row)
    if bad and not names:
        raise SourceError(f"{path}: not JSON Lines: {bad}; write one object per line")
    return Table(list(names), lambda start, _used: _jsonl_rows(path, encoding, start))


def _jsonl_rows(path: Path, encoding: str, start: int) -> Rows:
    with _open_text(path, encoding) as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_CHARS), "")):
            too_long = len(line) == MAX_CHARS and not line.endswith("\n")
            while too_long and (rest := file.readline(MAX_CHARS)) and not rest.endswith("\n"):
                pass
            if number < start or not line.strip():
                continue
            row: dict[str, Any] | str = "too long" if too_long else json_object(line)
            if not _is_unicode([line]):
                row = "not UTF-8"
            yield number, f"line {number + 1}: {row}" if isinstance(row, str) else row


def _open_json(path: Path) -> Table:
    """Objects in one JSON document, of whatever shape; the columns are those of the first rows."""
    if path.stat().st_size > MAX_JSON_BYTES:
        raise SourceError(
            f"{path}: more than {MAX_JSON_BYTES // 1_000_000:,} MB of JSON; write JSON Lines, one "
            "object per line"
        )
    try:
        with _open_text(path, _encoding(path)) as file:
            document = file.read()
        if not _is_unicode([document]):
            raise SourceError(f"{path}: not UTF-8 text; save it as UTF-8")
        rows = rows_of(parse_json(document))
    except TooDeepError as error:
        raise SourceError(f"{path}: JSON nested too deeply; write one object per row") from error
    except ValueError as error:
        lines = document.split("\n", 2)
        if len(lines) > 1 and isinstance(json_object(lines[0]), dict):  # JSON Lines after all
            return _open_jsonl(path)
        raise SourceError(
            f"{path}: no table of JSON objects: {error}; write an array of objects"
        ) from error
    names = dict.fromkeys(name for row in rows[:HEAD_ROWS] if isinstance(row, dict) for name in row)

    def numbered(start: int, _used: Collection[str]) -> Rows:
        for number in range(start, len(rows)):
            row = rows[number]
            yield number, row if isinstance(row, dict) else f"row {number + 1}: not an object"

    return Table(list(names), numbered)


def open_parquet(path: Path | str, leaves: Sequence[str] = ()) -> Table:
    """A Parquet file, also at a url of fsspec's; columns with bytes deeper inside are hidden,
    except for the ``leaves`` of these."""
    schema = parquet_schema(path)
    fields = [field for field in schema if not _hides_bytes(field.type)]

    def rows(start: int, used: Collection[str]) -> Rows:
        names = [f.name for f in fields if f.name in used or not _is_bytes(f.type)]
        return _parquet_rows(path, [*names, *leaves], start)

    def narrow(used: Collection[str]) -> Rows:
        return _parquet_rows(path, [f.name for f in fields if f.name in used], 0)

    return Table([field.name for field in fields], rows, narrow=narrow)


def parquet_schema(path: Path | str) -> pa.Schema:
    """The columns of a Parquet file. Raises SourceError for what is none, or cannot be read."""
    try:
        return pq.read_schema(parquet_source(path))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and (error.errno is not None or _is_url(path)):
            why = f"cannot be read: {error.strerror or one_line(error)}"
        else:
            why = f"not a Parquet file ({one_line(error)}); copy it again"
        raise SourceError(f"{path}: {why}") from error


def parquet_source(path: Path | str) -> Any:
    """What pyarrow reads of ``path``: a local path, or the open file behind a url."""
    return fsspec.open(str(path), "rb").open() if _is_url(path) else path


def _is_url(path: Path | str) -> bool:
    return isinstance(path, str) and "://" in path


def _parquet_rows(path: Path | str, names: list[str], start: int) -> Rows:
    if not names:  # nothing but bytes: Arrow would count no rows
        with pq.ParquetFile(parquet_source(path)) as file:
            groups = parquet_groups(path, file.metadata)
            try:
                for group in range(len(groups)):
                    check_group(path, groups, group)
            except BombError as error:
                raise _damaged(path, error) from error
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
        groups = parquet_groups(path, file.metadata)
        for group in range(len(groups)):
            group_rows = groups[group].rows
            if number + group_rows <= start:
                number += group_rows
                continue
            try:
                at_once = min(rows, check_group(path, groups, group, names))
                for batch in file.iter_batches(at_once, [group], names):
                    skip = min(max(start - number, 0), batch.num_rows)
                    yield number + skip, batch.slice(skip)
                    number += batch.num_rows
            except (pa.ArrowException, OSError, BombError) as error:
                raise SourceError(
                    f"{path}: row group {group} is damaged ({one_line(error)}); copy the file again"
                ) from error


def parquet_groups(path: Path | str, metadata: pq.FileMetaData) -> list[Group]:
    """The row groups of a Parquet file. Raises SourceError where its footer cannot be read, or,
    of a file on the disk, claims rows that it cannot hold."""
    try:
        if not _is_url(path):
            check_rows(metadata, Path(path).stat().st_size)
        with fsspec.open(path, "rb") if _is_url(path) else Path(path).open("rb") as file:
            return read_groups(file)
    except BombError as error:
        raise _damaged(path, error) from error


def _damaged(path: Path | str, error: BombError) -> SourceError:
    return SourceError(f"{path}: damaged ({error}); copy the file again")


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
