"""Hugging Face datasets as Parquet files, with the images inside.

https://huggingface.co/docs/hub/datasets-image: a struct of ``bytes`` and ``path``, as the library
datasets writes it, or a list of such; or a plain column of bytes, as in img2dataset's Parquet
output.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field

from surd.errors import SourceError, listed
from surd.files.archives import TABLE_SUFFIXES, holds_bytes, is_image, leaf_of
from surd.sources.column_names import (
    ColumnParams,
    column,
    fields_of,
    find_columns,
    texts_of,
)
from surd.sources.paging import Numbered, files_from, find_files, paged
from surd.sources.record import Page, Record, Seen
from surd.sources.table_rows import open_parquet, parquet_groups, parquet_schema, parquet_source
from surd.untrusted import below

IMAGE_NAMES = ("image", "jpg", "jpeg", "png", "webp", "img", "images")

log = logging.getLogger("surd")


class HuggingFaceSource(ColumnParams):
    """Rows of Parquet files that hold their images, in the order of files and rows.

    A sample's key is its file's name and its row, unless ``key_column`` names what is unique. A
    row with a list of images is as many samples. Where a file has paths in place of the images'
    bytes, they start from its folder, or from one above.
    Columns that are not named here go to the samples' settings.
    """

    kind: Literal["huggingface"] = "huggingface"
    path: str = Field(
        min_length=1,
        description="folder of Parquet files, one file, or a pattern; or a dataset on the Hub, "
        "hf://datasets/ORG/NAME (with the token that huggingface_hub stores)",
    )
    image_column: str | None = Field(
        default=None,
        description=f"column name; default: {', '.join(IMAGE_NAMES)}, or the only one that "
        "holds bytes",
    )
    key_column: str | None = Field(
        default=None, description="column of ids, unique across all files"
    )
    url_column: str | None = column("url")


def pages(params: HuggingFaceSource, cursor: str | None) -> Iterator[Page]:
    """Records in the order of files and rows; a cursor names a file and counts its rows."""
    is_url = "://" in params.path
    files: list[tuple[str, Any]] = (
        _files_at_url(params.path)
        if is_url
        else list(find_files(params.path, TABLE_SUFFIXES, ".parquet"))
    )
    seen = Seen()
    return paged(_records(params, files_from(files, cursor, params.path), seen), cursor, seen)


def _files_at_url(url: str) -> list[tuple[str, Any]]:
    try:
        fs, root = fsspec.core.url_to_fs(url)
        protocol = url.partition("://")[0]
        found = [root] if fs.isfile(root) else fs.glob(f"{root.rstrip('/')}/**")
        files = [name for name in found if name.lower().endswith(TABLE_SUFFIXES)]
    except Exception as error:  # every file system has its own
        text = str(error).split("\n", 1)[0][:200] or type(error).__name__
        raise SourceError(
            f"{url}: cannot be listed ({text}); expected hf://datasets/ORG/NAME"
        ) from error
    if not files:
        raise SourceError(f"{url}: contains no .parquet file; correct the source's path")
    named = [
        (name.removeprefix(root).lstrip("/") or name, f"{protocol}://{name}") for name in files
    ]
    return sorted(named)


def _records(
    params: HuggingFaceSource, files: Iterator[tuple[str, Path | str, int]], seen: Seen
) -> Iterator[Numbered]:
    for name, path, start in files:
        seen.files += not start
        schema = parquet_schema(path)
        image = _image_column(params, schema, path)
        type_ = schema.field(image).type
        is_outside = pa.types.is_struct(type_) and _has_no_bytes(path, image)
        has_list = pa.types.is_list(type_)
        leaves = [leaf_of(image, type_, "path")] if is_outside or has_list else []
        table = open_parquet(path, leaves)
        names = [column for column in table.columns if column != image]
        columns = find_columns(params, names, path)
        columns = {purpose: column for purpose, column in columns.items() if column != image}
        if params.key_column is not None and params.key_column not in names:
            raise SourceError(
                f"{path}: no column {params.key_column!r} for key_column; columns: {listed(names)}"
            )
        used = set(columns.values()) | ({params.key_column} if params.key_column else set())
        skipped, first = 0, ""
        for number, row in table.rows(start, used):
            try:
                if isinstance(row, str):
                    raise ValueError(row)
                cell = row.get(image) if leaves else None
                rest = {key: value for key, value in row.items() if not leaves or key != image}
                if is_outside:
                    places = [_outside(params, path, (cell or {}).get("path"))]
                elif has_list:
                    places = [f"{path}::{image}/{number}/{i}" for i in range(len(cell or ()))]
                else:
                    places = [f"{path}::{image}/{number}"]
                for i, place in enumerate(places):
                    part = f"/{i}" if has_list else ""
                    yield name, number, _record(params, columns, rest, place, name, number, part)
            except ValueError as error:
                skipped, first = skipped + 1, first or str(error)
                seen.pass_over("bad row of a table", f"{name}: {error}")
        if skipped:
            log.warning("%s: %s; %d such rows skipped", path, first, skipped)


def _has_no_bytes(path: Path | str, image: str) -> bool:
    """Whether a file says of all its images that their bytes are elsewhere."""
    with pq.ParquetFile(parquet_source(path)) as file:
        groups = parquet_groups(path, file.metadata)
    return any(group.rows for group in groups) and all(
        column.nulls == group.rows
        for group in groups
        for column in group.columns
        if column.place == f"{image}.bytes"
    )


def _outside(params: HuggingFaceSource, table: Path | str, written: str | None) -> str | None:
    """Where an image is that a table on the disk names by its path: below the table's folder, or
    one above it up to the source's. Raises ValueError where it is neither."""
    if written is None or isinstance(table, str):
        return None
    top = Path(params.path).expanduser().absolute()
    folders = [table.parent]
    while folders[-1] != top and top in folders[-1].parents:
        folders.append(folders[-1].parent)
    below(folders[-1], written)
    found = (folder / written for folder in folders)
    return str(next((place for place in found if place.is_file()), table.parent / written))


def _record(
    params: HuggingFaceSource,
    columns: dict[str, str],
    row: Any,
    path: str | None,
    name: str,
    number: int,
    part: str,
) -> Record:
    texts = texts_of(columns, row)
    key = None if params.key_column is None else row.get(params.key_column)
    failed = "error_message" in row and row.get("status") not in (None, "success")
    return Record(
        key=f"{name}/{number}{part}" if key is None else f"{key}{part}",
        source_id=None if key is None else f"{key}{part}",
        url=texts.get("url"),
        path=None if failed else path,  # a row of img2dataset without an image may have a url
        **fields_of(params, columns, row, texts),
    )


def _image_column(params: HuggingFaceSource, schema: pa.Schema, path: Path | str) -> str:
    """The column with the images. Raises SourceError when there is none, or none is likeliest."""
    images = [field.name for field in schema if _is_image(field.type)]
    if params.image_column is not None:
        if params.image_column in images:
            return params.image_column
        found = listed(images)
        raise SourceError(
            f"{path}: {params.image_column!r} is not a column of bytes; set image_column to "
            f"one of these: {found}"
        )
    likely = [name for name in IMAGE_NAMES if name in images]
    if likely or len(images) == 1:
        return str((likely or images)[0])
    if images:
        raise SourceError(
            f"{path}: several columns hold bytes, {listed(images)}; choose one with image_column"
        )
    raise SourceError(
        f"{path}: no column holds images; for a table of urls or paths, use the source table"
    )


def has_images(path: Path) -> bool:
    """Whether a Parquet file has a column that can hold images. Raises SourceError for no such."""
    return any(_is_image(field.type) for field in parquet_schema(path))


def _is_image(type_: pa.DataType) -> bool:
    return is_image(type_) or holds_bytes(type_)
