"""Downloading many images at once: rows in, rows out, in order and in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from surd.files.local_files import LocalFiles
from surd.net.fetch import Fetcher
from surd.net.fetched import Fetched, FetchLimits
from surd.net.hosts import BEFORE_ALL, Hosts
from surd.net.request import open_session
from surd.stages.base import Batch
from surd.store.schema import IMAGES

Row = dict[str, Any]

_MAX_AHEAD = 4096
"""Rows that may be on their way: others are fetched while a host lets the oldest wait."""


@dataclass(slots=True)
class _Job:
    """One row on its way: made from its earlier version, a local file, or a url."""

    id: str
    url: str | None
    path: str | None
    earlier: Row | None
    same_settings: bool
    ends_batch: bool
    row: Future[Row] = field(default_factory=Future)
    order: int = 0
    """Older rows have lower numbers."""
    held_bytes: int = 0
    """What it takes of the buffer; known before the row is."""


def _jobs(batch: Batch) -> Iterator[_Job]:
    before = batch.previous
    for i, row in enumerate(batch.table.to_pylist()):
        earlier = None
        if before is not None and i < before.num_rows:
            found = before.slice(i, 1).to_pylist()[0]
            if found["id"] == row["id"] and found["status"] == "ok":
                earlier = found
        last = i + 1 == batch.table.num_rows
        yield _Job(row["id"], row["url"], row["path"], earlier, batch.same_settings, last)


class Downloader:
    """An event loop in a thread, a pool for the processor's work, rows out in order.

    Three bounds hold at once: requests (``concurrency``), rows on their way, and bytes of finished
    rows that wait for an older one (``buffer_bytes``). The oldest row waits for no room, so a full
    buffer always drains.
    """

    def __init__(
        self,
        limits: FetchLimits,
        settle: Callable[[Fetched], Row],
        *,
        table_rows: int,
        concurrency: int,
        per_host: int,
        host_patience_s: float | None,
        contact: str | None,
        threads: int,
        buffer_bytes: int,
    ) -> None:
        """``settle`` makes the row of what was fetched; it runs in one of ``threads``."""
        self._limits = limits
        self._settle = settle
        self._table_rows = table_rows
        self._hosts = Hosts(
            per_host, concurrency, patience_s=host_patience_s, has_room=self._has_room
        )
        self._contact = contact
        self._buffer_bytes = buffer_bytes
        self._held_bytes = 0
        self._pool = ThreadPoolExecutor(threads, "surd-images")
        self._jobs: queue.SimpleQueue[_Job | BaseException | None] = queue.SimpleQueue()
        self._files = LocalFiles()
        self._started = threading.Event()
        self._task: asyncio.Task[None] | None = None
        self._wanted: _Job | None = None

    def run(self, batches: Iterable[Batch]) -> Iterator[pa.Table]:
        """Start fetching, and yield tables of finished rows."""
        thread = threading.Thread(
            target=self._serve, args=(batches,), name="surd-download", daemon=True
        )
        thread.start()
        self._started.wait()
        done: list[_Job] = []
        held_bytes = 0
        try:
            while (job := self._jobs.get()) is not None:
                if isinstance(job, BaseException):
                    raise job
                if not job.row.done():
                    self._tell_loop(self._want, job)
                job.row.result()
                done.append(job)
                held_bytes += job.held_bytes
                full = len(done) == self._table_rows or held_bytes > self._buffer_bytes / 4
                if full or job.ends_batch:  # tables that end with batches need not be cut again
                    yield self._emit(done)
                    done, held_bytes = [], 0
            if done:
                yield self._emit(done)
        finally:
            if self._task is not None:
                self._tell_loop(self._task.cancel)
            thread.join()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._files.close()

    def _emit(self, jobs: list[_Job]) -> pa.Table:
        """The rows as a table; the room they took is free again."""
        self._tell_loop(self._release, len(jobs), sum(job.held_bytes for job in jobs))
        rows: list[Row] = [{"id": job.id, **job.row.result()} for job in jobs]
        columns = [
            _files([row.get(field.name) for row in rows])
            if field.name == "bytes"
            else pa.array([row.get(field.name) for row in rows], field.type)
            for field in IMAGES
        ]
        return pa.Table.from_arrays(columns, schema=IMAGES)

    def _tell_loop(self, what: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(what, *arguments)

    # in the event loop's thread -----------------------------------------------------------------

    def _serve(self, batches: Iterable[Batch]) -> None:
        """Run the loop, and tell the end of it, whatever that is."""
        end: BaseException | None = None
        try:
            asyncio.run(self._main(batches))
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            end = error
        finally:
            self._jobs.put(end)
            self._started.set()

    async def _main(self, batches: Iterable[Batch]) -> None:
        self._loop = asyncio.get_running_loop()
        self._window = asyncio.Semaphore(_MAX_AHEAD)
        self._freed = asyncio.Event()
        self._task = asyncio.ensure_future(self._pump(batches))
        self._started.set()
        await self._task

    async def _pump(self, batches: Iterable[Batch]) -> None:
        """Start every job as soon as there is room."""
        tasks: set[asyncio.Task[None]] = set()
        async with open_session(self._limits, contact=self._contact) as session:
            fetcher = Fetcher(session, self._limits, self._hosts)
            try:
                numbers = itertools.count()
                for batch in batches:
                    for job in _jobs(batch):
                        await self._window.acquire()
                        while self._held_bytes > self._buffer_bytes:
                            self._freed.clear()
                            await self._freed.wait()
                        job.order = next(numbers)
                        if job.earlier is not None:
                            self._hold(job, job.earlier["bytes"])
                        self._jobs.put(job)
                        task = asyncio.ensure_future(self._work(fetcher, job))
                        tasks.add(task)
                        task.add_done_callback(tasks.discard)
            except asyncio.CancelledError:
                for task in tasks:
                    task.cancel()
                raise
            finally:  # also when a batch cannot be read: rows before it are still good
                await asyncio.gather(*tasks, return_exceptions=True)

    def _has_room(self, order: int) -> bool:
        """Whether a row may begin; the one that all others wait for always may."""
        is_oldest = self._wanted is not None and order == self._wanted.order
        return self._held_bytes <= self._buffer_bytes or is_oldest or order == BEFORE_ALL

    def _want(self, job: _Job) -> None:
        """No row can be given out before this one."""
        self._wanted = job
        self._hosts.deal()

    async def _work(self, fetcher: Fetcher, job: _Job) -> None:
        """Fetch what is to be fetched, and hand the rest to the pool."""
        try:
            if job.earlier is not None and job.same_settings:
                job.row.set_result(job.earlier)
            elif not job.url or job.path is not None or _reusable(job):
                async with self._hosts.turn(None, job.order):
                    row = await self._loop.run_in_executor(self._pool, self._local_row, job)
                self._hold(job, row.get("bytes"))
                job.row.set_result(row)
            else:
                fetched = await fetcher.fetch(job.url, job.order)
                self._hold(job, fetched.body)
                self._pool.submit(self._settle_into, job.row, fetched)
        except BaseException as error:
            job.row.set_exception(error)
            raise

    def _local_row(self, job: _Job) -> Row:
        """The row of a job that needs no network; runs in the pool."""
        if job.earlier is not None:
            http_status, body = job.earlier["http_status"], job.earlier["bytes"]
            return self._settle(Fetched("ok", None, http_status, body))
        if job.path is not None:
            return self._settle(self._files.read(job.path, self._limits.max_bytes))
        return {"status": "no_location", "detail": "neither url nor path"}

    def _settle_into(self, row: Future[Row], fetched: Fetched) -> None:
        try:
            row.set_result(self._settle(fetched))
        except Exception as error:
            row.set_exception(error)

    def _hold(self, job: _Job, data: bytes | None) -> None:
        """Count what the row takes, before there is a row: the room of one that is given out is
        free again, as much as was counted."""
        self._held_bytes += len(data or b"") - job.held_bytes
        job.held_bytes = len(data or b"")

    def _release(self, rows: int, held_bytes: int) -> None:
        for _ in range(rows):
            self._window.release()
        self._held_bytes -= held_bytes
        self._freed.set()
        self._hosts.deal()


def _files(files: list[bytes | None]) -> pa.ChunkedArray:
    """A column of files, each in a chunk of its own, which is not copied."""
    return pa.chunked_array([_file(file) for file in files], pa.large_binary())


def _file(file: bytes | None) -> pa.LargeBinaryArray:
    if file is None:
        return pa.nulls(1, pa.large_binary())
    offsets = pa.py_buffer(np.array([0, len(file)], np.int64))
    return pa.LargeBinaryArray.from_buffers(
        pa.large_binary(), 1, [None, offsets, pa.py_buffer(file)]
    )


def _reusable(job: _Job) -> bool:
    """Whether the earlier version still holds the original bytes."""
    return job.earlier is not None and not job.earlier["resized"]
