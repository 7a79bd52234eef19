"""Datasets in the formats that others write, as files."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Files = Mapping[str, bytes | str | Mapping[str, Any]]


def as_bytes(content: bytes | str | Mapping[str, Any]) -> bytes:
    if isinstance(content, bytes):
        return content
    return (content if isinstance(content, str) else json.dumps(content)).encode()


def write_tar(path: Path, files: Files) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(as_bytes(content))
            archive.addfile(info, io.BytesIO(as_bytes(content)))
    return path


def write_hf(
    path: Path, images: Sequence[bytes | None], group: int = 100, **columns: Sequence[Any]
) -> Path:
    """Parquet as the library datasets writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": image, "path": f"{i}.png"} for i, image in enumerate(images)]
    struct = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(cells, struct), **columns})
    pq.write_table(table, path, row_group_size=group)
    return path


def img2dataset_row(key: str, **fields: Any) -> dict[str, Any]:
    """What img2dataset says of an image that it has."""
    row = {
        "url": f"https://a.example/{key}.jpg",
        "caption": f"caption {key}",
        "key": key,
        "status": "success",
        "error_message": None,
        "width": 64,
        "height": 48,
        "original_width": 640,
        "original_height": 480,
        "exif": "{}",
        "sha256": "0" * 64,
    }
    return row | fields
