"""Rows of CSV, TSV and JSON Lines; of a bad row, what is wrong with it."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from typing import Any

MAX_CHARS = 64_000_000
"""A CSV field or JSON line beyond this is a bad row."""


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
        value = json.loads(line.decode("utf-8-sig") if isinstance(line, bytes) else line)
    except UnicodeError:
        return "not UTF-8"
    except ValueError as error:
        return f"not JSON: {error}"
    except RecursionError:
        return "not JSON: nested too deeply"
    return value if isinstance(value, dict) else "not a JSON object"
