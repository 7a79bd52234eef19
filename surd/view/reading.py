"""Single rows of parts, read by the row group they are in."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from surd.store.workspace import Workspace

_CACHE_BYTES = 256_000_000


class RowReader:
    """Keeps the row groups that were read last, since neighbours are asked for next; threads share
    it. See :func:`surd.store.aligned.read_row`."""

    def __init__(self, workspace: Workspace, cache_bytes: int = _CACHE_BYTES) -> None:
        self.location = workspace.location
        self._workspace = workspace
        self._cache_bytes = cache_bytes
        self._held: OrderedDict[tuple[Any, ...], tuple[int, pa.Table]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def read_around(
        self, group: str, part: int, row: int, columns: Sequence[str]
    ) -> tuple[int, pa.Table]:
        """As :meth:`Workspace.read_around`."""
        with self._lock:
            wanted = tuple(columns)
            for key, (first, table) in self._held.items():
                if key[:3] == (group, part, wanted) and first <= row < first + table.num_rows:
                    self._held.move_to_end(key)
                    return first, table
            first, table = self._workspace.read_around(group, part, row, wanted)
            self._drop((group, part, wanted, first))  # which ended earlier, before the part grew
            self._held[group, part, wanted, first] = first, table
            self._bytes += table.nbytes
            while self._bytes > self._cache_bytes:
                self._drop(next(iter(self._held)))
            return first, table

    def _drop(self, key: tuple[Any, ...]) -> None:
        if key in self._held:
            self._bytes -= self._held.pop(key)[1].nbytes

    def forget(self) -> None:
        """Read anew from now on, since parts have changed."""
        with self._lock:
            self._held.clear()
            self._bytes = 0
