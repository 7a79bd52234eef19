"""Records from any table with urls or paths of images, and prompts.

:mod:`surd.sources.table_rows` reads the files, whatever their format.
"""

from __future__ import annotations

import glob
import json
import logging
import os
from array import array
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from surd.errors import SourceError, listed
from surd.sources.column_names import (
    USUAL_NAMES,
    ColumnParams,
    cell,
    column,
    fields_of,
    find_columns,
    texts_of,
)
from surd.sources.record import Page, Record, Seen
from surd.sources.sidecar import as_list, texts_in
from surd.sources.table_rows import SUFFIXES, Row, Table, format_of, open_table
from surd.untrusted import below, parse_json

PAGE_RECORDS = 100

log = logging.getLogger("surd")


class TableSource(ColumnParams):
    """Rows of one table, or of several of one kind; img2dataset's and LAION's work as they are.

    Rows of one file that name the same image are one sample with several captions, unless
    ``id_column`` tells them apart. A row that lists several images is as many samples. A sample's
    key is its id, else its url, else its path; ids have to be unique in all the files.
    Columns that are not named here go to the samples' settings, except bytes and empty values.
    A row that cannot be read is skipped; each file reports how many were, and the first.
    """

    kind: Literal["table"] = "table"
    path: str = Field(
        min_length=1, description="file, folder of files, or a pattern such as t/*.csv"
    )
    format: Literal["auto", "csv", "tsv", "jsonl", "parquet", "json"] = Field(
        default="auto", description="auto: by file extension"
    )
    delimiter: str | None = Field(
        default=None,
        min_length=1,
        max_length=1,
        description="what separates the columns of CSV or TSV; default: comma, semicolon, tab or "
        "|, as the first rows show",
    )
    url_column: str | None = column("url")
    path_column: str | None = column("path")
    id_column: str | None = column("id")
    images_root: str | None = Field(
        default=None,
        description="folder that paths start from and have to stay in; default: the table's own",
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
    seen = Seen()
    for i in range(first_file, len(files)):
        seen.files += i > first_file or not first_row
        for row, found in _records(params, *files[i], first_row if i == first_file else 0, seen):
            if len(records) >= PAGE_RECORDS:
                yield Page(here, records, seen.take())
                here, records = json.dumps({"file": i, "row": row}), []
            records += found
    if records or seen.passed or seen.files:
        yield Page(here, records, seen.take())


def _position(cursor: str | None, file_count: int, path: str) -> tuple[int, int]:
    if cursor is None:
        return 0, 0
    try:
        position = parse_json(cursor)
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
        tables = [p for p in found if format_of(p, params.format) != "json"]
        found = tables or found  # beside tables, .json tells something else
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
    params: TableSource, name: str, path: Path, format_: str, start: int, seen: Seen
) -> Iterator[tuple[int, list[Record]]]:
    """Numbered rows of one file and their records; bad rows are counted and told once."""
    skipped, first = 0, ""
    known = {usual for names in USUAL_NAMES.values() for usual in names}
    asked = {value.lower() for key, value in params if key.endswith("_column") and value}
    try:
        table = open_table(path, format_, known | asked, params.delimiter)
        if not table.columns:
            return
        columns = _columns(params, table, path)
        root = Path(params.images_root or path.parent).expanduser().absolute()
        repeats = _repeats(params, table, columns)
        for number, row in table.rows(start, columns.values()):
            try:
                if isinstance(row, str):
                    raise ValueError(row)
                if number in repeats.later:
                    continue
                whole = _merged(columns, [row, *repeats.rows.get(number, ())])
                records = _records_of(params, columns, root, whole, f"row {name} {number + 1}")
            except ValueError as error:
                where = "" if isinstance(row, str) else f"row {number + 1}: "
                skipped, first = skipped + 1, first or f"{where}{error}"
                seen.pass_over("bad row of a table", f"{name}: {where}{error}")
            else:
                yield number, records
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    finally:
        if skipped:
            log.warning("%s: %s; %d such rows skipped", path, first, skipped)


def _columns(params: TableSource, table: Table, path: Path) -> dict[str, str]:
    names = table.columns
    columns = find_columns(params, names, path)
    if not columns.keys() & {"url", "path"}:
        raise SourceError(
            f"{path}: no column of urls or paths; name one with url_column or path_column. "
            f"Columns: {listed(names)}"
        )
    unnamed = [name for name in names if name.startswith("column_")]
    if not table.has_header and "prompt" not in columns and len(unnamed) > 1:
        raise SourceError(
            f"{path}: no header line, and several columns could hold the prompt; set "
            f"prompt_column to one of {listed(unnamed)}"
        )
    return columns


# --- several rows of one image, several images of one row --------------------------------------


@dataclass(frozen=True)
class _Repeats:
    """Rows whose image an earlier row has."""

    rows: Mapping[int, list[Row]]
    """Number of the first row of an image -> the later ones."""
    later: Collection[int]
    """Numbers of the later ones."""


def _repeats(params: TableSource, table: Table, columns: Mapping[str, str]) -> _Repeats:
    """Find the rows that name an image again; reads the file's column of images once, and all of
    it again only where there are such rows. Takes 8 bytes a row."""
    purposes = ("id",) if params.id_column else ("url", "path", "id")
    names = [columns[purpose] for purpose in purposes if purpose in columns]
    read = table.narrow or (lambda used: table.rows(0, used))
    hashes = array("q")
    for _, row in read(names):
        image = None if isinstance(row, str) else _image_of(row, names)
        if image is not None:
            hashes.append(hash(image))
    found, counts = np.unique(np.frombuffer(hashes, np.int64), return_counts=True)
    repeated = set(found[counts > 1].tolist())
    firsts: dict[str, int] = {}
    rows: dict[int, list[Row]] = {}
    later: set[int] = set()
    if repeated:
        for number, row in table.rows(0, columns.values()):
            image = None if isinstance(row, str) else _image_of(row, names)
            if image is None or isinstance(row, str) or hash(image) not in repeated:
                continue
            if image in firsts:
                rows.setdefault(firsts[image], []).append(row)
                later.add(number)
            else:
                firsts[image] = number
    return _Repeats(rows, later)


def _image_of(row: Row, names: Sequence[str]) -> str | None:
    """What a row calls its image: the first text in these columns."""
    for name in names:
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            return value
    return None


def _merged(columns: Mapping[str, str], rows: Sequence[Row]) -> Row:
    """The first of the rows of one image, with the prompts and captions of all, and a list where
    they differ in a column that has no purpose."""
    merged = dict(rows[0])
    if len(rows) == 1:
        return merged
    texts = [columns[purpose] for purpose in ("prompt", "simple_prompt") if purpose in columns]
    known = set(columns.values())
    for name in merged:
        values = [row.get(name) for row in rows if row.get(name) not in (None, "")]
        if name in texts:
            merged[name] = list(dict.fromkeys(text for v in values for text in texts_in(v)))
        elif values:
            others = list({str(value): value for value in values}.values())
            merged[name] = values[0] if name in known or len(others) == 1 else others
    return merged


def _records_of(
    params: TableSource, columns: Mapping[str, str], root: Path, row: Row, nameless: str
) -> list[Record]:
    """Records of one row, one for each image it lists. Raises ValueError for bytes that are not
    UTF-8."""
    held = [columns[purpose] for purpose in ("url", "path") if purpose in columns]
    found = {name: _places(row[name]) for name in held if not _is_plain(row.get(name))}
    lists = {name: places for name, places in found.items() if len(places) > 1}
    if not lists:
        flat = {name: places[0] if places else None for name, places in found.items()}
        return [_record(params, columns, root, {**row, **flat} if flat else row, nameless)]
    count = max(map(len, lists.values()))
    records = []
    for i in range(count):
        own = dict(row)
        for name, places in lists.items():
            own[name] = places[i] if i < len(places) else None
        for purpose in ("prompt", "simple_prompt"):
            texts = texts_in(cell(columns, row, purpose))
            if len(texts) == count:  # one each
                own[columns[purpose]] = texts[i]
        if (id_ := cell(columns, row, "id")) is not None:
            own[columns["id"]] = f"{id_}/{i}"
        records.append(_record(params, columns, root, own, f"{nameless}/{i}"))
    return records


def _places(value: Any) -> list[str]:
    """The urls or paths in a cell: one, or a list of them, or of objects that hold one."""
    if isinstance(value, str):
        listed = as_list(value.strip())
        return _places(listed) if listed else [value]
    if isinstance(value, (list, tuple)):
        return [place for item in value for place in _places(item)]
    if isinstance(value, Mapping):
        names = ("path", "url", "src", "file_name")
        return next((_places(value[name]) for name in names if value.get(name)), [])
    return []


def _is_plain(value: Any) -> bool:
    """Whether a cell of a url or path is just that, or nothing."""
    if isinstance(value, str):
        return not value.lstrip().startswith("[")
    return not isinstance(value, (list, tuple, Mapping))


def _record(
    params: TableSource, columns: Mapping[str, str], root: Path, row: Row, nameless: str
) -> Record:
    """Record of one image. Raises ValueError for bytes that are not UTF-8, and for a path that
    leads out of ``root``."""
    text = texts_of(columns, row)
    if _is_url(text.get("path")) and text.get("url") is None:
        text["url"], text["path"] = text["path"], None
    written = text.get("path")
    doubtful = text.get("url") is not None and not params.path_column
    try:
        path = _locate(root, written.replace("\\", "/")) if written is not None else None
    except ValueError:
        if not doubtful:
            raise
        path = text["path"] = None
    if path and doubtful and not _is_there(path):
        path = text["path"] = None  # nobody called it a path, and there is nothing
    return Record(
        key=text.get("id") or text.get("url") or written or nameless,
        source_id=text.get("id"),
        url=text.get("url"),
        path=path,
        **fields_of(params, columns, row, text),
    )


def _is_url(text: str | None) -> bool:
    return text is not None and text.lower().startswith(("http://", "https://"))


def _locate(root: Path, written: str) -> str:
    """Absolute form of a path, which may be ``archive.zip::member``. Raises ValueError where it
    leads out of ``root``."""
    file, mark, member = written.partition("::")
    try:
        below(root, written)
        return f"{below(root, file)}{mark}{member}"
    except ValueError as error:
        raise ValueError(
            f"{error}; if you trust the table, set images_root to / or to a folder "
            "that holds its images"
        ) from error


def _is_there(path: str) -> bool:
    file = path.partition("::")[0]
    return os.path.exists(file)  # noqa: PTH110  (Path.exists raises for names too long)
