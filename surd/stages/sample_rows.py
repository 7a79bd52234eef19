"""Rows of samples, made of records."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from surd.sources.record import Record
from surd.stages.base import part_fingerprint
from surd.stages.source_state import FOUND, GROUP, VERSION
from surd.stages.tally import tally, to_json
from surd.store.schema import SAMPLES
from surd.store.workspace import Workspace

_PLAIN = frozenset({str, int, bool, type(None)})
_SURROGATE = re.compile("[\ud800-\udfff]")
_FIELDS = (
    "source_id",
    "url",
    "path",
    "prompt",
    "negative_prompt",
    "simple_prompt",
    "author",
    "licence",
    "nsfw_level",
    "model",
    "page_url",
    "created_at",
)


def row_of(id_: str, kind: str, record: Record) -> dict[str, Any]:
    """The samples row of a record, with text that every format can hold."""
    row: dict[str, Any] = {name: _clean(getattr(record, name)) for name in _FIELDS}
    settings = _jsonable(record.settings)
    text = json.dumps(settings, ensure_ascii=False) if settings else None
    captions = [_clean(caption) for caption in record.captions] or None
    return row | {"id": id_, "source": kind, "captions": captions, "settings": _clean(text)}


def _clean(text: str | None) -> str | None:
    """Lone surrogates cannot be stored as UTF-8; they become U+FFFD."""
    return text if text is None or text.isascii() else _SURROGATE.sub("\ufffd", text)


def _jsonable(value: Any, depth: int = 0) -> Any:
    """Plain JSON: finite numbers, string keys, bounded depth."""
    if type(value) in _PLAIN:
        return value
    if depth > 20:
        return str(value)[:1000]
    if isinstance(value, Mapping):
        return {str(k): _jsonable(v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(v, depth + 1) for v in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def write_part(
    workspace: Workspace, part: int, rows: Sequence[dict[str, Any]], state: dict[str, Any]
) -> None:
    """Write a part of samples, with the state of its source."""
    table = pa.Table.from_pylist(list(rows), schema=SAMPLES)
    with workspace.writing_part(GROUP, part, SAMPLES) as writer:
        writer.write(table)
        writer.describe(
            fingerprint=part_fingerprint(f"collect {VERSION}", {}),
            settings=f"collect {VERSION}",
            inputs={},
            extra=state | {FOUND: to_json(tally(rows))},
        )
