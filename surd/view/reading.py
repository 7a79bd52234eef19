"""Single rows of parts, read by the row group they are in."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from surd.errors import WorkspaceError
from surd.store.workspace import DamagedPartError, Workspace

_CACHE_BYTES = 256_000_000


class RowReader:
    """Reads rows, and keeps the row groups that were read last: neighbours are asked for next."""

    def __init__(self, workspace: Workspace, cache_bytes: int = _CACHE_BYTES) -> None:
        self._workspace = workspace
        self._cache_bytes = cache_bytes
        self._held: OrderedDict[tuple[Any, ...], tuple[int, pa.Table]] = OrderedDict()
        self._lock = threading.Lock()

    def row(self, group: str, part: int, row: int, columns: Sequence[str]) -> dict[str, Any]:
        """The row's values. Raises WorkspaceError when there is no such row."""
        with self._lock:
            first, table = self._around(group, part, row, tuple(columns))
        values: dict[str, Any] = table.slice(row - first, 1).to_pylist()[0]
        return values

    def row_if_there(
        self, group: str, part: int, row: int, columns: Sequence[str]
    ) -> dict[str, Any]:
        """The row's values; nothing where the stage has not come so far."""
        try:
            return self.row(group, part, row, columns)
        except DamagedPartError:
            raise
        except WorkspaceError:
            return {}

    def forget(self) -> None:
        """Read anew from now on, since parts have changed."""
        with self._lock:
            self._held.clear()

    def _around(
        self, group: str, part: int, row: int, columns: tuple[str, ...]
    ) -> tuple[int, pa.Table]:
        for key, (first, table) in self._held.items():
            if key[:3] == (group, part, columns) and first <= row < first + table.num_rows:
                self._held.move_to_end(key)
                return first, table
        first, table = self._workspace.read_around(group, part, row, columns)
        self._held[group, part, columns, first] = first, table
        while sum(held.nbytes for _, held in self._held.values()) > self._cache_bytes:
            self._held.popitem(last=False)
        return first, table
