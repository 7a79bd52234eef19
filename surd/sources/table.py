"""Records from any table with urls or paths of images, and prompts.

:mod:`surd.sources.table_rows` reads the files, whatever their format.
"""

from __future__ import annotations

import glob
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from surd.errors import SourceError
from surd.sources.column_names import (
    ColumnParams,
    column,
    fields_of,
    find_columns,
    listed,
    texts_of,
)
from surd.sources.record import Page, Record
from surd.sources.table_rows import OPEN, SUFFIXES, Row, format_of

PAGE_RECORDS = 100

log = logging.getLogger("surd")


class TableSource(ColumnParams):
    """Rows of one table, or of several of one kind; img2dataset's and LAION's work as they are.

    A sample's key is its id, else its url, else its path; ids have to be unique in all the files.
    Columns that are not named here go to the samples' settings, except bytes and empty values.
    A row that cannot be read is skipped; each file reports how many were, and the first.
    """

    kind: Literal["table"] = "table"
    path: str = Field(
        min_length=1, description="file, folder of files, or a pattern such as t/*.csv"
    )
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet"] = Field(
        default="auto", description="auto: by file extension"
    )
    url_column: str | None = column("url")
    path_column: str | None = column("path")
    id_column: str | None = column("id")
    images_root: str | None = Field(
        default=None, description="folder that relative paths start from; default: the table's own"
    )


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
        raise SourceError(f"{path}: {cursor!r} is not a cursor of a table; start again") from error
    if file >= file_count:
        raise SourceError(
            f"{path}: was read up to file {file + 1}, but only {file_count} files exist; "
            "restore the missing ones"
        )
    return file, row


def _files(params: TableSource) -> list[tuple[str, Path, str]]:
    """Each file's name below the source's path, its path, and its format."""
    path = Path(params.path).expanduser()
    if path.is_file():
        return [(path.name, path, format_of(path, params.format))]
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
    kinds = sorted({format_of(p, params.format) for p in found})
    if len(kinds) > 1:
        raise SourceError(f"{params.path}: contains both {' and '.join(kinds)} files; set format")
    top = os.path.commonpath([p.parent for p in found])
    found.sort(key=os.fsencode)
    return [(p.relative_to(top).as_posix(), p, kinds[0]) for p in found]


# --- from rows to records ----------------------------------------------------------------------


def _records(
    params: TableSource, name: str, path: Path, format_: str, start: int
) -> Iterator[tuple[int, Record]]:
    """Numbered records of one file; bad rows are counted and told once."""
    skipped, first = 0, ""
    try:
        table = OPEN[format_](path)
        columns = _columns(params, table.columns, path)
        root = Path(params.images_root or path.parent).expanduser().absolute()
        for number, row in table.rows(start, columns.values()):
            try:
                if isinstance(row, str):
                    raise ValueError(row)
                record = _record(params, columns, root, row, f"row {name} {number + 1}")
            except ValueError as error:
                where = "" if isinstance(row, str) else f"row {number + 1}: "
                skipped, first = skipped + 1, first or f"{where}{error}"
            else:
                yield number, record
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    finally:
        if skipped:
            log.warning("%s: %s; %d such rows skipped", path, first, skipped)


def _columns(params: TableSource, names: Sequence[str], path: Path) -> dict[str, str]:
    columns = find_columns(params, names, path)
    if not columns.keys() & {"url", "path"}:
        mend = "no column of urls or paths; name one with url_column or path_column. Columns:"
        log.warning("%s: %s %s", path, mend, listed(names))
    return columns


def _record(
    params: TableSource, columns: Mapping[str, str], root: Path, row: Row, nameless: str
) -> Record:
    """Record of one row. Raises ValueError for bytes that are not UTF-8."""
    text = texts_of(columns, row)
    written = text.get("path")
    path = _locate(root, written) if written is not None else None
    if path and text.get("url") and not params.path_column and not _is_there(path):
        path = text["path"] = None  # nobody called it a path, and there is nothing
    return Record(
        key=text.get("id") or text.get("url") or written or nameless,
        source_id=text.get("id"),
        url=text.get("url"),
        path=path,
        **fields_of(params, columns, row, text),
    )


def _locate(root: Path, written: str) -> str:
    """Absolute form of a path, which may be ``archive.zip::member``."""
    file, mark, member = written.partition("::")
    return f"{root / file}{mark}{member}"


def _is_there(path: str) -> bool:
    file = path.partition("::")[0]
    return os.path.exists(file)  # noqa: PTH110  (Path.exists raises for names too long)
