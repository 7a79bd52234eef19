"""Reading some columns of a remote Parquet file in one go.

Small columns lie in many places: a chunk for each row group. Asked for one after the other they
take a round trip each; here all are asked for at once, near ones together.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow.parquet as pq
from fsspec.spec import AbstractBufferedFile
from fsspec.utils import merge_offset_ranges

_GAP_BYTES = 65_536
"""Less than this between two ranges costs less to read than another request."""


def with_columns(
    fs: Any, path: str, file: Any, footer: pq.FileMetaData, columns: Sequence[str]
) -> Any:
    """The open ``file`` once more, with the bytes of top-level ``columns`` and no others."""
    chunks = list(_chunks(footer, set(columns)))
    starts, ends = [start for start, _ in chunks], [end for _, end in chunks]
    paths, starts, ends = merge_offset_ranges([path] * len(chunks), starts, ends, _GAP_BYTES)
    contents = fs.cat_ranges(paths, starts, ends, on_error="raise")
    known = dict(zip(zip(starts, ends, strict=True), contents, strict=True))
    return AbstractBufferedFile(
        fs,
        path,
        cache_type="parts",
        cache_options={"data": known, "strict": True},  # what is missing is no row of zeros
        size=file.seek(0, io.SEEK_END),
    )


def _chunks(footer: pq.FileMetaData, columns: set[str]) -> Iterator[tuple[int, int]]:
    """Where each begins and ends."""
    for group in range(footer.num_row_groups):
        about = footer.row_group(group)
        for number in range(about.num_columns):
            chunk = about.column(number)
            if chunk.path_in_schema.partition(".")[0] in columns:
                pages = chunk.data_page_offset
                start = min(chunk.dictionary_page_offset or pages, pages)
                yield start, start + chunk.total_compressed_size
