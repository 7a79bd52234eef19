"""Rows of CSV, TSV and JSON Lines; of a bad row, what is wrong with it.

Of a table of delimited text, the delimiter and the names of its columns are found in its first
rows, where nobody gives them.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from surd.files.formats import LOCATION
from surd.untrusted import parse_json

MAX_CHARS = 64_000_000
"""A CSV field or JSON line beyond this is a bad row."""
DELIMITERS = (",", ";", "\t", "|")
HEAD_LINES = 100
"""So many suffice to find the layout of a table."""
_HEAD_ROWS = 20
_SEPARATOR = re.compile(r"\ufeff?\"?sep=(.)\"?\s*", re.IGNORECASE)
"""Excel's first line."""


@dataclass(frozen=True)
class Layout:
    """How a table of delimited text is laid out."""

    delimiter: str
    names: Sequence[str]
    """Of the columns; a table without a header has ``url``, ``path`` and ``caption`` where the
    cells show them, else ``column_1``, ..."""
    has_header: bool
    skipped_lines: int
    """1 where the first line names the delimiter."""


def layout_of(
    lines: Sequence[str], known: Collection[str], delimiter: str | None = None, usual: str = ","
) -> Layout | None:
    """The layout of a table that begins with ``lines``; None where there is no row.

    ``known`` are names that columns usually have, in lower case. Where the delimiter is not given
    it is the one that makes columns of such names, then the one that makes rows of equal length;
    ``usual`` where none does.
    """
    named = _SEPARATOR.fullmatch(lines[0]) if lines else None
    body = lines[1:] if named else lines
    if named:
        delimiter = named[1]
    choices = [delimiter] if delimiter else [usual, *(d for d in DELIMITERS if d != usual)]
    heads = {choice: _head(body, choice) for choice in choices}
    best = max(choices, key=lambda choice: _fit(heads[choice], known))  # the first of equals
    rows = heads[best]
    if not rows:
        return None
    known_names = any(cell.strip().lower() in known for cell in rows[0])
    header = known_names or not any(LOCATION.fullmatch(cell) for cell in rows[0])
    names = (
        [name.strip() or f"column_{i}" for i, name in enumerate(rows[0], 1)]
        if header
        else _names_by_content(rows)
    )
    return Layout(best, names, header, int(bool(named)))


def _head(lines: Sequence[str], delimiter: str) -> list[list[str]]:
    rows = islice(delimited_rows(lines, delimiter), _HEAD_ROWS)
    return [row for _, row in rows if not isinstance(row, str)]


def _fit(rows: list[list[str]], known: Collection[str]) -> tuple[int, float]:
    if not rows or len(rows[0]) < 2:
        return 0, 0.0
    names = sum(cell.strip().lower() in known for cell in rows[0])
    return names, sum(len(row) == len(rows[0]) for row in rows) / len(rows)


def _names_by_content(rows: list[list[str]]) -> list[str]:
    """Names for the columns of a table without a header."""
    columns = [[cell for cell in column if cell.strip()] for column in zip(*rows, strict=False)]
    names = [f"column_{i}" for i in range(1, len(rows[0]) + 1)]
    texts = []
    for i, cells in enumerate(columns):
        if cells and all(LOCATION.fullmatch(cell) for cell in cells):
            name = "url" if cells[0].lstrip().lower().startswith("http") else "path"
            names[i] = name if name not in names else names[i]
        elif any(char.isalpha() for cell in cells for char in cell):
            texts.append(i)
    if len(texts) == 1:
        names[texts[0]] = "caption"
    return names


def table_rows(text: str, known: Collection[str]) -> Iterator[tuple[int, dict[str, str] | str]]:
    """Line number and cells by name of each row of a small table; of a bad row, what is wrong."""
    lines = list(io.StringIO(text, newline=""))
    layout = layout_of(lines[:HEAD_LINES], known)
    if layout is None:
        return
    rows = delimited_rows(lines[layout.skipped_lines :], layout.delimiter)
    for line, row in islice(rows, int(layout.has_header), None):
        if isinstance(row, str):
            yield line, row
        elif len(row) != len(layout.names):
            yield line, f"{len(row)} fields, but the header has {len(layout.names)}"
        else:
            yield line, dict(zip(layout.names, row, strict=True))


def delimited_rows(lines: Iterable[str], delimiter: str) -> Iterator[tuple[int, list[str] | str]]:
    """Every row that is not blank, or what is wrong with it, and the number of its first line."""
    width = None
    taken: list[str] = []
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


def _noting(lines: Iterable[str], taken: list[str]) -> Iterator[str]:
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


def json_object(line: str | bytes) -> dict[str, Any] | str:
    """The object on a line of JSON, or what is wrong with it."""
    try:
        value = parse_json(line.decode("utf-8-sig") if isinstance(line, bytes) else line)
    except UnicodeError:
        return "not UTF-8"
    except ValueError as error:
        return f"not JSON: {error}"
    return value if isinstance(value, dict) else "not a JSON object"
