"""Downloading many images at once: rows in, rows out, in order and in bounded memory."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pyarrow as pa

from surd.files.local_files import LocalFiles
from surd.net.fetch import Fetched, FetchLimits, fetch, open_session
from surd.stages.base import Batch
from surd.store.schema import IMAGES

Row = dict[str, Any]


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
    held_bytes: int = 0


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

    Three bounds hold at once: connections (``concurrency``), rows on their way (four times that
    and the table being made), and bytes of finished rows that wait for an older one
    (``buffer_bytes``). The oldest row was started first and never waits, so a full buffer always
    drains.
    """

    def __init__(
        self,
        limits: FetchLimits,
        settle: Callable[[Fetched], Row],
        *,
        table_rows: int,
        concurrency: int,
        per_host: int,
        contact: str | None,
        threads: int,
        buffer_bytes: int,
    ) -> None:
        """``settle`` makes the row of what was fetched; it runs in one of ``threads``."""
        self._limits = limits
        self._settle = settle
        self._table_rows = table_rows
        self._concurrency = concurrency
        self._per_host = per_host
        self._contact = contact
        self._buffer_bytes = buffer_bytes
        self._held_bytes = 0
        self._pool = ThreadPoolExecutor(threads, "surd-images")
        self._jobs: queue.SimpleQueue[_Job | Exception | None] = queue.SimpleQueue()
        self._files = LocalFiles()
        self._started = threading.Event()

    def run(self, batches: Iterable[Batch]) -> Iterator[pa.Table]:
        """Start fetching, and yield tables of finished rows."""
        thread = threading.Thread(
            target=lambda: asyncio.run(self._main(batches)), name="surd-download", daemon=True
        )
        thread.start()
        self._started.wait()
        done: list[_Job] = []
        held_bytes = 0
        try:
            while (job := self._jobs.get()) is not None:
                if isinstance(job, Exception):
                    raise job
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
            self._tell_loop(self._task.cancel)
            thread.join()
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._files.close()

    def _emit(self, jobs: list[_Job]) -> pa.Table:
        """The rows as a table; the room they took is free again."""
        self._tell_loop(self._release, len(jobs), sum(job.held_bytes for job in jobs))
        return pa.Table.from_pylist([{"id": j.id} | j.row.result() for j in jobs], schema=IMAGES)

    def _tell_loop(self, what: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended by itself
            self._loop.call_soon_threadsafe(what, *arguments)

    # in the event loop's thread -----------------------------------------------------------------

    async def _main(self, batches: Iterable[Batch]) -> None:
        self._loop = asyncio.get_running_loop()
        self._connections = asyncio.Semaphore(self._concurrency)
        self._window = asyncio.Semaphore(4 * self._concurrency + self._table_rows)
        self._freed = asyncio.Event()
        self._task = asyncio.ensure_future(self._pump(batches))
        self._started.set()
        try:
            await self._task
            self._jobs.put(None)
        except asyncio.CancelledError:
            self._jobs.put(None)
        except Exception as error:
            self._jobs.put(error)

    async def _pump(self, batches: Iterable[Batch]) -> None:
        """Start every job as soon as there is room."""
        tasks: set[asyncio.Task[None]] = set()
        async with open_session(
            self._limits, per_host=self._per_host, contact=self._contact
        ) as session:
            try:
                for batch in batches:
                    for job in _jobs(batch):
                        await self._room()
                        self._jobs.put(job)
                        task = asyncio.ensure_future(self._work(session, job))
                        tasks.add(task)
                        task.add_done_callback(tasks.discard)
            except asyncio.CancelledError:
                for task in tasks:
                    task.cancel()
                raise
            finally:  # also when a batch cannot be read: rows before it are still good
                await asyncio.gather(*tasks, return_exceptions=True)

    async def _room(self) -> None:
        await self._window.acquire()
        await self._connections.acquire()
        while self._held_bytes > self._buffer_bytes:
            self._freed.clear()
            await self._freed.wait()

    async def _work(self, session: aiohttp.ClientSession, job: _Job) -> None:
        """Fetch what is to be fetched, and hand the rest to the pool."""
        try:
            if job.earlier is not None and job.same_settings:
                job.row.set_result(job.earlier)
                self._hold(job, job.earlier["bytes"])
            elif not job.url or job.path is not None or _reusable(job):
                row = await self._loop.run_in_executor(self._pool, self._local_row, job)
                self._hold(job, row.get("bytes"))
                job.row.set_result(row)
            else:
                fetched = await fetch(session, job.url, self._limits)
                self._hold(job, fetched.body)
                self._pool.submit(self._settle_into, job.row, fetched)
        except BaseException as error:
            job.row.set_exception(error)
            raise
        finally:
            self._connections.release()

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
        job.held_bytes = len(data or b"")
        self._held_bytes += job.held_bytes

    def _release(self, rows: int, held_bytes: int) -> None:
        for _ in range(rows):
            self._window.release()
        self._held_bytes -= held_bytes
        self._freed.set()


def _reusable(job: _Job) -> bool:
    """Whether the earlier version still holds the original bytes."""
    return job.earlier is not None and not job.earlier["resized"]
