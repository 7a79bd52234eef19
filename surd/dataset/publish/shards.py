"""Writing one split: rows cut into row groups, row groups into files of about one size."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from surd.dataset.columns import PUBLISHED
from surd.recipe.publish import PublishParams
from surd.store.schema import DIFFERENT
from surd.store.storage import Storage

_SMALL = [name for name in PUBLISHED.names if name != "image"] + ["image.path"]
_MB = 1_000_000


@dataclass(frozen=True)
class Shard:
    """One file of a dataset; its number of how many is known only when all are written."""

    split: str
    index: int
    rows: int
    bytes: int
    sha256: str


@contextmanager
def writing_split(
    storage: Storage, folder: str, split: str, params: PublishParams
) -> Iterator[SplitWriter]:
    """Write a split into ``folder``; its last file is whole when the block ends without error."""
    with ExitStack() as stack:
        writer = SplitWriter(storage, folder, split, params, stack)
        yield writer
        writer.finish()


def temporary_name(split: str, index: int) -> str:
    """What a shard is called while their number is not known."""
    return f"{split}-{index:05d}.parquet"


class SplitWriter:
    """Takes rows and cuts them; where it cuts depends on the rows alone, not on their batches."""

    def __init__(
        self, storage: Storage, folder: str, split: str, params: PublishParams, stack: ExitStack
    ) -> None:
        self.shards: list[Shard] = []
        self._storage, self._folder, self._split = storage, folder, split
        self._max_rows = params.row_group_rows
        self._max_bytes = params.row_group_mb * _MB
        self._shard_bytes = params.shard_mb * _MB
        self._pending: list[pa.Table] = []
        self._pending_rows = self._pending_bytes = 0
        self._stack = stack
        self._shard = ExitStack()
        self._file: pq.ParquetWriter | None = None
        self._path = Path()
        self._written_rows = self._written_bytes = 0

    def write(self, rows: pa.Table) -> None:
        """Append rows of the published schema."""
        sizes = pc.binary_length(pc.struct_field(rows["image"], "bytes")).to_pylist()
        start = 0
        for row, size in enumerate(sizes):
            full = self._pending_bytes + size > self._max_bytes
            if self._pending_rows == self._max_rows or (full and self._pending_rows):
                self._pending.append(rows.slice(start, row - start))
                self._flush()
                start = row
            self._pending_rows += 1
            self._pending_bytes += size
        self._pending.append(rows.slice(start))

    def finish(self) -> None:
        """Write what is pending and end the last shard."""
        if self._pending_rows:
            self._flush()
        self._end_shard()

    def _flush(self) -> None:
        if self._written_bytes + self._pending_bytes > self._shard_bytes:
            self._end_shard()
        file = self._file or self._begin_shard()
        file.write_table(
            pa.concat_tables(self._pending).combine_chunks(), row_group_size=self._pending_rows
        )
        self._written_rows += self._pending_rows
        self._written_bytes += self._pending_bytes
        self._pending, self._pending_rows, self._pending_bytes = [], 0, 0

    def _begin_shard(self) -> pq.ParquetWriter:
        name = f"{self._folder}/{temporary_name(self._split, len(self.shards))}"
        self._shard = self._stack.enter_context(ExitStack())
        self._path = self._shard.enter_context(self._storage.writing(name))
        self._file = pq.ParquetWriter(
            self._path,
            PUBLISHED,
            compression=dict.fromkeys(_SMALL, "zstd"),  # images are compressed already
            use_dictionary=[name for name in _SMALL if name not in DIFFERENT],
            write_statistics=_SMALL,
            write_page_checksum=True,
            write_page_index=True,
        )
        self._shard.callback(self._file.close)
        return self._file

    def _end_shard(self) -> None:
        if self._file is None:
            return
        self._file.close()
        self.shards.append(
            Shard(
                self._split,
                len(self.shards),
                self._written_rows,
                self._path.stat().st_size,
                _sha256(self._path),
            )
        )
        self._shard.close()
        self._file, self._written_rows, self._written_bytes = None, 0, 0


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
