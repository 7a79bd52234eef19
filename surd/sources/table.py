"""Any CSV, TSV, JSON Lines or Parquet table with urls or paths of images, and prompts."""

from __future__ import annotations

import csv
import difflib
import glob
import json
import logging
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from surd.errors import SourceError
from surd.sources.record import Page, Record, SourceParams
from surd.sources.sidecar import json_able

PAGE_RECORDS = 100
BATCH_ROWS = 1000
MAX_CHARS = 64_000_000
"""A CSV field or JSON line beyond this is a bad row."""
HEAD_ROWS = 100
"""JSON Lines have no header: the columns are those of so many rows."""
SUFFIXES = {
    "csv": (".csv",),
    "tsv": (".tsv", ".tab"),
    "jsonl": (".jsonl", ".ndjson"),
    "parquet": (".parquet", ".pq"),
}
USUAL_NAMES = {
    "url": ("url", "image_url", "img_url", "link"),
    "path": ("path", "file", "file_name", "filename", "image_path"),
    "prompt": ("prompt", "text", "caption"),
    "negative_prompt": ("negative_prompt", "negativeprompt"),
    "id": ("id", "image_id", "uuid"),
    "author": ("author", "username", "user_name", "creator"),
    "licence": ("licence", "license"),
    "nsfw": ("nsfw_level", "nsfw"),
    "model": ("model", "model_name"),
}
"""What a column is for -> the names it usually has, likeliest first; case does not matter."""
NSFW_LEVELS = {
    **dict.fromkeys(("none", "false", "0", "sfw", "safe", "unlikely"), "none"),
    "soft": "soft",
    "mature": "mature",
    **dict.fromkeys(("x", "true", "1", "nsfw"), "x"),
}
"""Civitai's words, yes and no, and LAION's. Any other value stays in the settings."""

log = logging.getLogger("surd")


def _column(purpose: str) -> Any:
    usual = ", ".join(USUAL_NAMES[purpose])
    return Field(default=None, description=f"column; left out: the first there is of {usual}")


class TableSource(SourceParams):
    """Rows of one table, or of several of one kind; img2dataset's and LAION's work as they are.

    A sample's key is its id, else its url, else its path; ids have to be unique in all the files.
    Columns that are not named here go to the samples' settings, except bytes and empty values.
    A row that cannot be read is skipped; each file reports how many were, and the first.
    """

    kind: Literal["table"] = "table"
    path: str = Field(min_length=1, description="file, folder of files, or pattern such as t/*.csv")
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet"] = Field(
        default="auto", description="auto: by the files' extension"
    )
    url_column: str | None = _column("url")
    path_column: str | None = _column("path")
    prompt_column: str | None = _column("prompt")
    negative_prompt_column: str | None = _column("negative_prompt")
    id_column: str | None = _column("id")
    author_column: str | None = _column("author")
    licence_column: str | None = _column("licence")
    nsfw_column: str | None = _column("nsfw")
    model_column: str | None = _column("model")
    images_root: str | None = Field(
        default=None, description="folder relative paths start from; left out: the table's own"
    )
    author: str | None = Field(default=None, description="author, where the table names none")
    licence: str | None = Field(default=None, description="licence, where the table names none")


Row = Mapping[str, Any]


@dataclass(frozen=True)
class _Table:
    """One file: its columns, and a function from a row number to the rows from there on.

    A row is its number, counted from 0 with the bad ones, and its values, or what is wrong.
    ``rows`` also takes the columns that are in use: no others are read when they hold bytes.
    """

    columns: Sequence[str]
    rows: Callable[[int, Collection[str]], Iterator[tuple[int, Row | str]]]


def pages(params: TableSource, cursor: str | None) -> Iterator[Page]:
    """Records in the order of files and rows; a cursor names a file and a row by number."""
    try:
        files = _files(params)
    except OSError as error:
        raise SourceError(f"{params.path}: cannot be read: {error.strerror or error}") from error
    first_file, first_row = _position(cursor, len(files), params.path)
    here = cursor
    records: list[Record] = []
    for i in range(first_file, len(files)):
        for row, record in _records(params, *files[i], first_row if i == first_file else 0):
            if len(records) == PAGE_RECORDS:
                yield Page(here, records)
                here, records = json.dumps({"file": i, "row": row}), []
            records.append(record)
    if records:
        yield Page(here, records)


def _position(cursor: str | None, file_count: int, path: str) -> tuple[int, int]:
    if cursor is None:
        return 0, 0
    try:
        position = json.loads(cursor)
        file, row = int(position["file"]), int(position["row"])
    except (ValueError, TypeError, KeyError) as error:
        raise SourceError(f"{path}: {cursor!r} is no cursor of a table; start anew") from error
    if file >= file_count:
        raise SourceError(
            f"{path}: was read up to file {file + 1}, but there are {file_count}; put them back"
        )
    return file, row


def _files(params: TableSource) -> list[tuple[str, Path, str]]:
    """Each file's name below the source's path, its path, and its format."""
    path = Path(params.path).expanduser()
    if path.is_file():
        return [(path.name, path, _format(path, params.format))]
    formats = list(SUFFIXES) if params.format == "auto" else [params.format]
    if path.is_dir():
        known = tuple(suffix for name in formats for suffix in SUFFIXES[name])
        found = [p for p in path.iterdir() if p.name.lower().endswith(known)]
    else:
        found = [Path(name) for name in glob.glob(str(path), recursive=True)]
    found = [p for p in found if p.is_file() and not p.name.startswith(".")]
    if not found:
        raise SourceError(
            f"{params.path}: no {', '.join(formats)} file found; correct the source's path"
        )
    kinds = sorted({_format(p, params.format) for p in found})
    if len(kinds) > 1:
        raise SourceError(f"{params.path}: {' and '.join(kinds)} files together; set format")
    top = os.path.commonpath([p.parent for p in found])
    found.sort(key=os.fsencode)
    return [(p.relative_to(top).as_posix(), p, kinds[0]) for p in found]


def _format(path: Path, asked: str) -> str:
    for name, suffixes in SUFFIXES.items():
        if asked == name or (asked == "auto" and path.name.lower().endswith(suffixes)):
            return name
    raise SourceError(
        f"{path}: its name does not tell its format; set format to one of {', '.join(SUFFIXES)}"
    )


# --- from rows to records ----------------------------------------------------------------------


def _records(
    params: TableSource, name: str, path: Path, format_: str, start: int
) -> Iterator[tuple[int, Record]]:
    """Numbered records of one file; bad rows are counted and told once."""
    skipped, first = 0, ""
    try:
        table = _OPEN[format_](path)
        columns = _columns(params, table.columns, path)
        root = Path(params.images_root or path.parent).expanduser().absolute()
        for number, row in table.rows(start, columns.values()):
            try:
                if isinstance(row, str):
                    raise ValueError(row)
                record = _record(params, columns, root, row, f"row {name} {number + 1}")
            except ValueError as error:
                skipped, first = skipped + 1, first or f"{_row_name(row, number)}{error}"
            else:
                yield number, record
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    finally:
        if skipped:
            log.warning("%s: %s; %d such rows skipped", path, first, skipped)


def _row_name(row: Row | str, number: int) -> str:
    return "" if isinstance(row, str) else f"row {number + 1}: "


def _columns(params: TableSource, names: Sequence[str], path: Path) -> dict[str, str]:
    """What a column is for -> the column, for those there are."""
    columns = {}
    by_lower_name = {name.lower(): name for name in reversed(names)}
    for purpose, usual in USUAL_NAMES.items():
        asked: str | None = getattr(params, f"{purpose}_column")
        found = [by_lower_name[name] for name in usual if name in by_lower_name]
        if asked is None and found:
            columns[purpose] = found[0]
        elif asked is not None and asked in names:
            columns[purpose] = asked
        elif asked is not None and names:
            near = difflib.get_close_matches(asked.lower(), by_lower_name, n=1, cutoff=0)[0]
            raise SourceError(
                f"{path}: no column {asked!r} for {purpose}_column; "
                f"did you mean {by_lower_name[near]!r}? There are {_listed(names)}"
            )
    if not columns.keys() & {"url", "path"}:
        mend = "no column of urls or paths; name it with url_column or path_column. There are"
        log.warning("%s: %s %s", path, mend, _listed(names))
    return columns


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return (", ".join(names[:20]) or "none") + more


def _record(
    params: TableSource, columns: Mapping[str, str], root: Path, row: Row, nameless: str
) -> Record:
    """Record of one row. Raises ValueError for bytes that are not UTF-8."""
    text = {purpose: _text(row.get(column)) for purpose, column in columns.items()}
    written = text.get("path")
    path = _locate(root, written) if written is not None else None
    if path and text.get("url") and not params.path_column and not _is_there(path):
        path = text["path"] = None  # nobody called it a path, and there is nothing
    text["nsfw"] = NSFW_LEVELS.get((text.get("nsfw") or "").strip().lower())
    taken = {columns[purpose] for purpose in columns if text[purpose] is not None}
    rest = {name: json_able(value) for name, value in row.items() if name not in taken}
    return Record(
        key=text.get("id") or text.get("url") or written or nameless,
        source_id=text.get("id"),
        url=text.get("url"),
        path=path,
        prompt=text.get("prompt"),
        negative_prompt=text.get("negative_prompt"),
        author=text.get("author") or params.author,
        licence=text.get("licence") or params.licence,
        nsfw_level=text["nsfw"],
        model=text.get("model"),
        settings={name: value for name, value in rest.items() if value not in (None, "")},
    )


def _text(value: Any) -> str | None:
    """A cell as text; None for nothing, blanks, and what is not a single value."""
    if value is None or isinstance(value, (list, tuple, dict)):
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    elif isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, float):
        value = f"{value:.15g}" if math.isfinite(value) else ""
    return str(value) if str(value).strip() else None


def _locate(root: Path, written: str) -> str:
    """Absolute form of a path, which may be ``archive.zip::member``."""
    file, mark, member = written.partition("::")
    return f"{root / file}{mark}{member}"


def _is_there(path: str) -> bool:
    file = path.partition("::")[0]
    return os.path.exists(file)  # noqa: PTH110  (Path.exists raises for names too long)


# --- from files to rows ------------------------------------------------------------------------


def _open_csv(path: Path, delimiter: str = ",") -> _Table:
    """A table with a header line, quoted as RFC 4180 says."""
    _refuse_utf16(path)
    _, header = next(_csv_rows(path, delimiter), (1, []))
    if isinstance(header, str) or not _is_unicode(header):
        raise SourceError(f"{path}: not a table: its first line is no UTF-8 text; save it as UTF-8")
    names = [name.strip() or f"column_{i}" for i, name in enumerate(header, 1)]

    def rows(start: int, _used: Collection[str]) -> Iterator[tuple[int, Row | str]]:
        for number, (line, values) in enumerate(islice(_csv_rows(path, delimiter), 1, None)):
            if number < start:
                continue
            if isinstance(values, str):
                yield number, f"line {line}: {values}"
            elif len(values) != len(names):
                yield number, f"line {line}: {len(values)} fields, the header has {len(names)}"
            elif not _is_unicode(values):
                yield number, f"line {line}: not UTF-8"
            else:
                yield number, dict(zip(names, values, strict=True))

    return _Table(names, rows)


def _csv_rows(path: Path, delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Every row that is not blank, or what is wrong with it, and the number of its first line.

    NULs are left out, since Python 3.10's reader stops at them.
    """
    width = None
    taken: list[str] = []
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        lines = (line.replace("\0", "") for line in iter(lambda: file.readline(MAX_CHARS), ""))
        # strict: an unclosed quote must not swallow the rows up to the next quote
        reader = csv.reader(_noting(lines, taken), delimiter=delimiter, strict=True)
        while True:
            first_line = reader.line_num + 1
            taken.clear()
            row = _next_row(reader)
            if row is None:
                return
            if delimiter == "\t" and (isinstance(row, str) or len(row) != width):
                # many writers of TSV quote nothing, as the media type's definition has it
                plain = [line.rstrip("\r\n").split(delimiter) for line in taken]
                if all(len(values) == width for values in plain):
                    yield from enumerate(plain, first_line)
                    continue
            if row:
                width = width or len(row)
                yield first_line, row


def _noting(lines: Iterator[str], taken: list[str]) -> Iterator[str]:
    for line in lines:
        taken.append(line)
        yield line


def _next_row(reader: Iterator[list[str]]) -> list[str] | str | None:
    """A row, what is wrong with it, or None at the end; the csv module's limit is put back."""
    limit = csv.field_size_limit(MAX_CHARS)
    try:
        return next(reader, None)
    except csv.Error as error:
        return str(error)
    finally:
        csv.field_size_limit(limit)


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


def _open_jsonl(path: Path) -> _Table:
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
        raise SourceError(f"{path}: not JSON Lines: {bad}; write one object a line")
    return _Table(list(names), lambda start, _used: _jsonl_rows(path, start))


def _jsonl_rows(path: Path, start: int) -> Iterator[tuple[int, Row | str]]:
    with path.open("rb") as file:
        for number, line in enumerate(iter(lambda: file.readline(MAX_CHARS), b"")):
            too_long = len(line) == MAX_CHARS and not line.endswith(b"\n")
            while too_long and (rest := file.readline(MAX_CHARS)) and not rest.endswith(b"\n"):
                pass
            if number < start or not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig")) if not too_long else "too long"
            except (ValueError, RecursionError) as error:
                row = "not UTF-8" if isinstance(error, UnicodeError) else f"not JSON: {error}"
            if isinstance(row, dict):
                yield number, row
            else:
                reason = row if isinstance(row, str) else "not a JSON object"
                yield number, f"line {number + 1}: {reason}"


def _open_parquet(path: Path) -> _Table:
    try:
        schema = pq.read_schema(path)
    except pa.ArrowException as error:
        raise SourceError(f"{path}: not a Parquet file ({_line(error)}); copy it again") from error
    fields = [field for field in schema if not _hides_bytes(field.type)]

    def rows(start: int, used: Collection[str]) -> Iterator[tuple[int, Row | str]]:
        names = [f.name for f in fields if f.name in used or not _is_bytes(f.type)]
        return _parquet_rows(path, names, start)

    return _Table([field.name for field in fields], rows)


def _parquet_rows(path: Path, names: list[str], start: int) -> Iterator[tuple[int, Row | str]]:
    """Streams batches; row groups before ``start`` are not read."""
    number = 0
    with pq.ParquetFile(path, buffer_size=1 << 20) as file:
        for group in range(file.num_row_groups):
            group_rows = file.metadata.row_group(group).num_rows
            if number + group_rows <= start:
                number += group_rows
                continue
            try:
                for batch in file.iter_batches(BATCH_ROWS, [group], names):
                    skip = max(start - number, 0)
                    yield from _batch_rows(_whole_microseconds(batch.slice(skip)), number + skip)
                    number += batch.num_rows
            except (pa.ArrowException, OSError) as error:
                raise SourceError(
                    f"{path}: row group {group} is damaged ({_line(error)}); copy the file again"
                ) from error


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _batch_rows(batch: pa.RecordBatch, first: int) -> Iterator[tuple[int, Row | str]]:
    """Rows as Python values, one by one only when some row's text is not UTF-8."""
    try:
        yield from enumerate(batch.to_pylist(), first)
    except (ValueError, OverflowError) as error:
        if batch.num_rows == 1:
            yield first, f"row {first + 1}: {error}"
            return
        for i in range(batch.num_rows):
            yield from _batch_rows(batch.slice(i, 1), first + i)


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


_OPEN: dict[str, Callable[[Path], _Table]] = {
    "csv": _open_csv,
    "tsv": partial(_open_csv, delimiter="\t"),
    "jsonl": _open_jsonl,
    "parquet": _open_parquet,
}
