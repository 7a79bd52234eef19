"""Tar shards in WebDataset's layout, as img2dataset writes them too.

Members that follow each other and share their name up to the first dot of its last part are one
sample: ``000017.jpg``, ``000017.txt``, ``000017.json``.
https://github.com/webdataset/webdataset
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import Field

from surd.errors import SourceError
from surd.files.tar_members import Member, members
from surd.sources.column_names import ColumnParams, column, fields_of, find_columns, texts_of
from surd.sources.paging import Numbered, files_from, find_files, paged
from surd.sources.record import Page, Record
from surd.sources.sidecar import (
    CAPTION_KEYS,
    PROMPT_KEYS,
    SIMPLE_PROMPT_KEYS,
    decode_text,
    flattened,
)

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "gif", "bmp")
WORDS_EXTENSIONS = ("txt", "caption", "text")
MAX_TEXT_BYTES = 4_000_000
"""A larger .txt, .caption or .json is not read."""

log = logging.getLogger("surd")


class WebDatasetSource(ColumnParams):
    """Samples of uncompressed .tar files, in the order of files and members.

    The ``…_column`` keys name fields of a sample's .json. The words of its .txt or .caption are
    the prompt; beside a ``prompt`` in the .json they are the simple prompt. A sample's key is the
    shard's name and its own. What is damaged is told and passed over.
    """

    kind: Literal["webdataset"] = "webdataset"
    path: str = Field(
        min_length=1, description=".tar file, folder of .tar files, or a pattern such as t/*.tar"
    )
    url_column: str | None = column("url")


def pages(params: WebDatasetSource, cursor: str | None) -> Iterator[Page]:
    """Records shard by shard; a cursor names a shard and counts its samples."""
    shards = find_files(params.path, (".tar",), ".tar")
    return paged(_records(params, files_from(shards, cursor, params.path)), cursor)


def _records(
    params: WebDatasetSource, shards: Iterator[tuple[str, Path, int]]
) -> Iterator[Numbered]:
    for name, path, start in shards:
        imageless = 0
        try:
            with path.open("rb") as file:
                for number, (key, parts) in enumerate(_groups(members(path))):
                    if number < start or not key:
                        continue
                    record = _record(params, f"{name}/{key}", key, parts, path, file)
                    if record is None:
                        imageless += 1
                    else:
                        yield name, number, record
        except ValueError as error:
            log.warning("%s: %s; fix that, then run surd collect again", path, error)
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
        if imageless:
            log.warning("%s: skipped %d samples without an image", path, imageless)


def _groups(found: Iterator[Member]) -> Iterator[tuple[str, dict[str, Member]]]:
    """Key and members, by extension, of each sample; also of the last one before a damage."""
    key, parts = "", dict[str, Member]()
    try:
        for member in found:
            its_key, extension = split_name(member.name)
            if its_key != key and parts:
                yield key, parts
                parts = {}
            key = its_key
            parts[extension] = member
    except ValueError:
        if parts:
            yield key, parts
        raise
    if parts:
        yield key, parts


def split_name(name: str) -> tuple[str, str]:
    """Key and extension of a member; no key for a hidden file, or one in a hidden folder."""
    name = name.removeprefix("./")
    folder, slash, base = name.rpartition("/")
    stem, _, extension = base.partition(".")
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))
    return ("", "") if hidden else (folder + slash + stem, extension.lower())


def _record(
    params: WebDatasetSource,
    record_key: str,
    key: str,
    parts: dict[str, Member],
    path: Path,
    file: BinaryIO,
) -> Record | None:
    image = _image(parts)
    if image is None:
        return None
    problems: list[str] = []
    texts = {
        extension: _read_text(file, member, problems)
        for extension, member in parts.items()
        if _holds_text(extension)
    }
    fields = _json_fields(texts.pop("json", None), problems)
    asked = [v for k, v in params if k.endswith("_column") and v]  # not every .json has them all
    columns = find_columns(params, [*fields, *asked], path)
    found = texts_of(columns, fields)
    _add_words(found, columns, texts)
    made = fields_of(params, columns, fields, found)
    if problems:
        made["settings"]["sidecar_error"] = "; ".join(problems)
    return Record(
        key=record_key,
        source_id=key,
        url=found.get("url"),
        path=f"{path}::{image.name}",
        **made,
    )


def _image(parts: dict[str, Member]) -> Member | None:
    for extension in IMAGE_EXTENSIONS:
        if extension in parts:
            return parts[extension]
    for extension, member in parts.items():  # as in 17.image.png
        if extension.rpartition(".")[2] in IMAGE_EXTENSIONS:
            return member
    return None


def _holds_text(extension: str) -> bool:
    named = extension.partition(".")[0] in (*PROMPT_KEYS, *SIMPLE_PROMPT_KEYS)
    image = extension.rpartition(".")[2] in IMAGE_EXTENSIONS
    return extension == "json" or extension in WORDS_EXTENSIONS or (named and not image)


def _add_words(
    found: dict[str, str | None], columns: dict[str, str], texts: dict[str, str | None]
) -> None:
    """Put the words of text members where they belong among what the .json says."""
    for extension, text in texts.items():
        name = extension.partition(".")[0]
        if text and name in PROMPT_KEYS:
            found["prompt"] = text
        elif text and name in SIMPLE_PROMPT_KEYS:
            found["simple_prompt"] = text
    words = _first([texts.get(extension) for extension in WORDS_EXTENSIONS])
    named = columns.get("prompt", "caption").lower() not in CAPTION_KEYS
    if words is None or words == found.get("prompt"):
        return
    if found.get("prompt") is not None and (named or any(k in texts for k in PROMPT_KEYS)):
        found["simple_prompt"] = found.get("simple_prompt") or words
    else:
        columns.pop("prompt", None)  # a caption that says something else goes to the settings
        found["prompt"] = words


def _first(texts: Sequence[str | None]) -> str | None:
    return next((text for text in texts if text), None)


def _read_text(file: BinaryIO, member: Member, problems: list[str]) -> str | None:
    if member.size > MAX_TEXT_BYTES:
        problems.append(f"{member.name}: more than {MAX_TEXT_BYTES:,} bytes")
        return None
    file.seek(member.offset)
    return decode_text(file.read(member.size)).strip() or None


def _json_fields(text: str | None, problems: list[str]) -> dict[str, Any]:
    try:
        fields = json.loads(text) if text else {}
        if not isinstance(fields, dict):
            raise ValueError(f"a JSON object is expected, not {type(fields).__name__}")
        return flattened(fields)
    except (ValueError, RecursionError) as error:
        problems.append(f"json: {error}")
        return {}
