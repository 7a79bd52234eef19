"""What ``surd-dataset.json`` says, checked: a dataset's files are opened, moved and exported by
the names in it, and its numbers are shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from surd.errors import one_line
from surd.untrusted import parse_json

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
PERCENTILES = (1, 5, 25, 50, 75, 95, 99)
"""Of each score, beside the count of those that have it; nothing where none has."""
_SHARD = re.compile(r"\w[\w.-]*\.parquet", re.ASCII)


def described(content: bytes) -> dict[str, Any]:
    """What a description says. Raises ValueError for one that surd did not write.

    Its ``splits`` are counted from its files.
    """
    said = parse_json(content)
    json.dumps(said, ensure_ascii=False).encode()  # which refuses halves of characters
    for file in _files_in(said):
        file.setdefault("written_as", file.get("name"))
    try:
        _Description.model_validate(said)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in first["loc"])
        why = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"{one_line(place.lstrip('.') or 'all', 100)}: {why}") from error
    found: dict[str, Any] = said | {"splits": splits_of(said["files"])}
    return found


def splits_of(files: Iterable[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Split -> the ``rows`` and ``bytes`` of its files, in the order of SPLITS."""
    found: dict[str, dict[str, int]] = {}
    for file in sorted(files, key=lambda file: SPLITS.index(file["split"])):
        counts = found.setdefault(file["split"], {"rows": 0, "bytes": 0})
        for key in counts:
            counts[key] += file[key]
    return found


def _files_in(said: Any) -> list[dict[str, Any]]:
    files = said.get("files") if isinstance(said, dict) else None
    return [file for file in files if isinstance(file, dict)] if isinstance(files, list) else []


def _shard(name: str) -> str:
    if not _SHARD.fullmatch(name):
        raise ValueError("no name of a Parquet file in this folder")
    return name


def _sha256(digest: str) -> str:
    if not re.fullmatch("[0-9a-f]{64}", digest):
        raise ValueError("no SHA-256 of 64 hexadecimal digits")
    return digest


_Name = Annotated[str, AfterValidator(_shard)]
_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Digest = Annotated[str, AfterValidator(_sha256)]


class _Said(BaseModel):
    """What else is in an object is of no concern."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class _File(_Said):
    name: _Name
    written_as: _Name
    split: Split
    rows: _Count
    bytes: _Count
    sha256: _Digest


class _Dropped(_Said):
    samples: _Count
    alone: _Count


class _Source(_Said):
    source: str
    licence: str | None
    samples: _Count


def _whole(scores: dict[str, float]) -> dict[str, float]:
    if scores and not scores.keys() >= {"count", *(f"p{percent}" for percent in PERCENTILES)}:
        raise ValueError("lacks percentiles")
    return scores


class _Example(_Said):
    simple: str
    complex: str


class _Statistics(_Said):
    """Of surd.dataset.publish.statistics."""

    collected: _Count
    with_image: _Count
    with_complex_prompt: _Count
    with_simple_prompt: _Count
    kept: _Count
    published: _Count
    without_complex_prompt: _Count = 0
    """Where samples without one may be published."""
    reasons: dict[str, _Dropped]
    sources: list[_Source]
    nsfw_levels: dict[str, _Count]
    formats: dict[str, _Count]
    exif_turned: _Count
    with_author: _Count
    scores: dict[str, Annotated[dict[str, float], AfterValidator(_whole)]]
    examples: list[_Example]


class _Description(_Said):
    complete: bool
    fingerprint: str
    files: list[_File]
    statistics: _Statistics
    texts: dict[str, _Digest]
