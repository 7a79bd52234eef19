"""Tar shards in WebDataset's layout, as img2dataset writes them too.

:mod:`surd.sources.tar_samples` tells which members are one sample: ``000017.jpg``, ``000017.txt``,
``000017.json``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

from pydantic import Field

from surd.errors import SourceError
from surd.files.tar_members import Member, members
from surd.files.text_encoding import decode_text
from surd.sources import metadata
from surd.sources.column_names import ColumnParams, column, fields_of, find_columns, texts_of
from surd.sources.paging import Numbered, files_from, find_files, paged
from surd.sources.record import Page, Record, Seen
from surd.sources.sidecar import (
    CAPTION_KEYS,
    NEGATIVE_PROMPT_KEYS,
    PROMPT_KEYS,
    SIMPLE_PROMPT_KEYS,
    Sidecar,
    flattened,
    texts_in,
)
from surd.sources.tar_samples import Part, TarSample, is_hidden, samples_of
from surd.sources.text_file import read_text
from surd.untrusted import parse_json

IMAGE_FIELDS = ("", "image", "img", "output", "outputs", "target", "edited", "generated")
"""Of several images of a sample the first of these is taken."""
TEXT_SUFFIXES = ("txt", "caption", "cap", "text", "tags", "cls")
MAX_TEXT_BYTES = 4_000_000
"""A larger .txt, .caption or .json is not read."""
MAX_IMAGE_BYTES = 100_000_000
"""Of a larger image the metadata is not read."""

log = logging.getLogger("surd")


class WebDatasetSource(ColumnParams):
    """Samples of uncompressed .tar files, in the order of files and members.

    The ``…_column`` keys name fields of a sample's .json. The words of its .txt or .caption are
    the prompt; beside a ``prompt`` in the .json they are the simple prompt. Where there is neither,
    the prompt is what the generator wrote into the image. A sample's key is the shard's name and
    its own. What is damaged is told and passed over.
    """

    kind: Literal["webdataset"] = "webdataset"
    path: str = Field(
        min_length=1, description=".tar file, folder of .tar files, or a pattern such as t/*.tar"
    )
    url_column: str | None = column("url")


def pages(params: WebDatasetSource, cursor: str | None) -> Iterator[Page]:
    """Records shard by shard; a cursor names a shard and counts its samples."""
    shards = find_files(params.path, (".tar",), ".tar")
    seen = Seen()
    return paged(_records(params, files_from(shards, cursor, params.path), seen), cursor, seen)


def _records(
    params: WebDatasetSource, shards: Iterator[tuple[str, Path, int]], seen: Seen
) -> Iterator[Numbered]:
    for name, path, start in shards:
        found, damage = _members(path)
        samples = samples_of(found)
        images = [_image(sample) for sample in samples]
        first = next((i for i, image in enumerate(images) if image is not None), None)
        if first is None:
            _count(seen, name, found, samples)
        try:
            with path.open("rb") as file:
                for number, (sample, image) in enumerate(zip(samples, images, strict=True)):
                    if number >= start and image is not None:
                        yield name, number, _record(params, name, sample, image, path, file)
                        if number == first:  # once, on the page that the shard begins on
                            _count(seen, name, found, samples)
        except OSError as error:
            raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
        if damage:
            log.warning("%s: %s; fix that, then run surd collect again", path, damage)
        imageless = images.count(None)
        if imageless:
            log.warning("%s: skipped %d samples without an image", path, imageless)


def _members(path: Path) -> tuple[list[Member], str]:
    """The members of a shard, and what is wrong with it, after which there may be more."""
    found: list[Member] = []
    try:
        found.extend(members(path))
    except ValueError as error:
        return found, str(error)
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror or error}") from error
    return found, ""


def _count(seen: Seen, name: str, found: list[Member], samples: list[TarSample]) -> None:
    """Count a shard's members, and those that are no part of a record."""
    seen.files += len(found)
    names: set[str] = set()
    for member in found:
        if is_hidden(member.name):
            seen.pass_over("hidden", f"{name}::{member.name}")
        elif member.name in names:
            seen.pass_over("a second member of the same name", f"{name}::{member.name}")
        names.add(member.name)
    for sample in samples:
        image = _image(sample)
        for part in sample.parts:
            where = f"{name}::{part.member.name}"
            if part.is_image and image is not None and part.member is not image:
                seen.pass_over("a further image of a sample", where)
            elif not part.is_image and not (part.suffix == "json" or _holds_text(part)):
                seen.pass_over(f".{part.suffix}" if part.suffix else "no suffix", where)
            elif image is None:
                seen.pass_over(f".{part.suffix} of no image", where)


def _image(sample: TarSample) -> Member | None:
    images = [part for part in sample.parts if part.is_image]
    images.sort(
        key=lambda part: IMAGE_FIELDS.index(part.field) if part.field in IMAGE_FIELDS else 9
    )
    return images[0].member if images else None


def _record(
    params: WebDatasetSource,
    shard: str,
    sample: TarSample,
    image: Member,
    path: Path,
    file: BinaryIO,
) -> Record:
    problems: list[str] = []
    fields: dict[str, Any] = {}
    words = unnamed = Sidecar()
    for part in sample.parts:
        if part.suffix == "json":
            found = _read_json(file, part.member, problems)
            if isinstance(found, list):
                words = words.over(Sidecar(captions=tuple(texts_in(found))))
            else:
                fields |= {**found, **fields}
        elif _holds_text(part) and (text := _read(file, part.member, problems)):
            role = _role(part)
            if role is None:
                unnamed = unnamed.over(replace(read_text(text), settings={part.field: text}))
            else:
                words = words.over(_said(role, text))
    if words == Sidecar(settings=words.settings):
        words = words.over(replace(unnamed, settings={}))
    else:
        words = words.over(Sidecar(settings=unnamed.settings))
    asked = [v for k, v in params if k.endswith("_column") and v]  # not every .json has them all
    columns = find_columns(params, [*fields, *asked], path)
    texts = texts_of(columns, fields)
    made = fields_of(params, columns, fields, texts, words)
    if made["prompt"] is None and image.size <= MAX_IMAGE_BYTES:
        file.seek(image.offset)
        own = metadata.read(file.read(image.size))
        made["prompt"] = own.prompt
        made["negative_prompt"] = made["negative_prompt"] or own.negative_prompt
        made["model"] = made["model"] or own.model
        made["settings"] = {**own.settings, **made["settings"]}
    if problems:
        made["settings"]["sidecar_error"] = "; ".join(problems)
    return Record(
        key=f"{shard}/{sample.key}",
        source_id=sample.key,
        url=texts.get("url"),
        path=f"{path}::{image.name}",
        **made,
    )


def _holds_text(part: Part) -> bool:
    named = part.suffix in (*PROMPT_KEYS, *SIMPLE_PROMPT_KEYS, *NEGATIVE_PROMPT_KEYS)
    return part.suffix in TEXT_SUFFIXES or named


def _role(part: Part) -> str | None:
    """What the words of a member are: named by its field, else by its suffix; None: unknown."""
    name = part.field.rpartition(".")[2] or part.suffix
    if part.suffix == "cls":
        return "cls"
    for role, keys in (
        ("prompt", PROMPT_KEYS),
        ("simple_prompt", SIMPLE_PROMPT_KEYS),
        ("negative_prompt", NEGATIVE_PROMPT_KEYS),
        ("tags", ("tags",)),
        ("text", (*CAPTION_KEYS, "txt", "cap", "output", "outputs")),
    ):
        if name in keys:
            return role
    return None


def _said(role: str, text: str) -> Sidecar:
    """What the words of a member with a role say."""
    if role == "cls":
        return Sidecar(settings={"cls": text[:1000]})
    if role == "simple_prompt":
        return Sidecar(simple_prompt=text)
    if role == "negative_prompt":
        return Sidecar(negative_prompt=text)
    return read_text(text, None if role == "text" else role)


def _read(file: BinaryIO, member: Member, problems: list[str]) -> str | None:
    if member.size > MAX_TEXT_BYTES:
        problems.append(f"{member.name}: more than {MAX_TEXT_BYTES:,} bytes")
        return None
    file.seek(member.offset)
    try:
        return decode_text(file.read(member.size)).strip() or None
    except ValueError as error:
        problems.append(f"{member.name}: {error}")
        return None


def _read_json(file: BinaryIO, member: Member, problems: list[str]) -> dict[str, Any] | list[Any]:
    """The fields of a sample, or a list of its captions."""
    text = _read(file, member, problems)
    try:
        fields = parse_json(text) if text else {}
        if isinstance(fields, list) and texts_in(fields):
            return fields
        if not isinstance(fields, dict):
            raise ValueError(f"a JSON object is expected, not {type(fields).__name__}")
        return flattened(fields)
    except ValueError as error:
        problems.append(f"json: {error}")
        return {}
