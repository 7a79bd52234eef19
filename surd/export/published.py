"""Reading a published dataset, wherever it lies."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from surd.errors import SurdError, WorkspaceError
from surd.publish.columns import EXTENSIONS, PUBLISHED
from surd.publish.folder import DESCRIPTION, FOLDER
from surd.storage import Storage

_BATCH_ROWS = 100
_FILE_NAME = re.compile(rf"([0-9a-f]{{32}})\.({'|'.join(EXTENSIONS.values())})")


@dataclass(frozen=True)
class Published:
    """A complete dataset, as ``surd publish`` leaves it."""

    location: str
    storage: Storage
    files: tuple[dict[str, Any], ...]

    @property
    def splits(self) -> dict[str, int]:
        """Split -> samples."""
        counts: dict[str, int] = {}
        for file in self.files:
            counts[file["split"]] = counts.get(file["split"], 0) + file["rows"]
        return counts


def open_published(location: str) -> Published:
    """The dataset of a workspace, or the folder of a dataset itself. Raises SurdError."""
    for place in (location, f"{location.rstrip('/')}/{FOLDER}"):
        storage = Storage(place)
        try:
            said = json.loads(storage.read_bytes(DESCRIPTION))
            if not said["complete"]:
                raise SurdError(f"{place}: is being replaced; finish with: surd publish {location}")
            return Published(place, storage, tuple(said["files"]))
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (ValueError, KeyError, TypeError) as error:
            raise SurdError(
                f"{place}/{DESCRIPTION}: unreadable ({error}); delete it and run surd publish again"
            ) from error
    raise SurdError(f"{location}: holds no published dataset; first run: surd publish {location}")


def batches(
    dataset: Published, split: str, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """The split's rows in order, some at a time. Raises WorkspaceError when a file is damaged."""
    for file in dataset.files:
        if file["split"] != split:
            continue
        try:
            source = dataset.storage.open(file["name"])
            with pq.ParquetFile(source, page_checksum_verification=True) as parquet:
                _check_columns(dataset, file["name"], parquet.schema_arrow)
                for batch in parquet.iter_batches(_BATCH_ROWS, columns=columns):
                    yield pa.Table.from_batches([batch])
        except (pa.ArrowException, OSError) as error:
            why = str(error).split("\n", 1)[0]
            raise WorkspaceError(
                f"{dataset.location}/{file['name']}: cannot be read ({why}); delete it and run "
                "surd publish again"
            ) from error


def _check_columns(dataset: Published, name: str, schema: pa.Schema) -> None:
    missing = set(PUBLISHED.names) - set(schema.names)
    if missing:
        raise WorkspaceError(
            f"{dataset.location}/{name}: has no column {', '.join(sorted(missing))}; "
            "publish it again with this surd"
        )


@dataclass(frozen=True, slots=True)
class Picture:
    """One sample: what its file may be called, its bytes, and its other columns."""

    id: str
    extension: str
    data: bytes
    fields: dict[str, Any]


def pictures(dataset: Published, split: str) -> Iterator[Picture]:
    """The split's samples, one by one. Raises SurdError where an id could lead astray."""
    for table in batches(dataset, split):
        for row in table.to_pylist():
            image = row.pop("image")
            match = _FILE_NAME.fullmatch(image["path"] or "")
            if match is None or match[1] != row["id"]:
                raise SurdError(
                    f"{dataset.location}: sample {row['id']!r:.80} is not named as surd names "
                    "samples; publish the dataset again"
                )
            yield Picture(match[1], match[2], image["bytes"], row)
