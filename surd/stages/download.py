"""download: fetch every image, check it, describe it, keep it."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pyarrow as pa
from pydantic import Field, field_validator

from surd import images
from surd.fetch import Fetched, FetchLimits, fetch, open_session
from surd.local_files import LocalFiles
from surd.resize import Resize, needs_resize, resize
from surd.schema import IMAGES
from surd.stage import Batch, Params, Stage, StageFunction, runtime

Row = dict[str, Any]


class DownloadParams(Params):
    """How images are fetched and what is accepted."""

    resize: Resize | None = Field(default=None, description="left out: bytes kept as downloaded")
    decode_check: bool = Field(default=True, description="read the whole image, to find damage")
    perceptual_hash: bool = Field(default=True, description="needs decode_check")
    max_bytes: int = Field(default=50_000_000, ge=1, description="bytes a file may have")
    max_pixels: int = Field(
        default=100_000_000, ge=1, le=images.MAX_PIXELS, description="pixels an image may have"
    )
    max_redirects: int = Field(default=5, ge=0, le=20)
    respect_noai: bool = Field(
        default=True, description="leave out images whose X-Robots-Tag says noai or noimageai"
    )
    allow_private_addresses: bool | list[str] = Field(
        default=False,
        description="also fetch from private and loopback addresses; or a list of networks",
    )
    contact: str | None = runtime(None, "mail address or page told to the sites in User-Agent")
    concurrency: int = runtime(64, "downloads at once", ge=1, le=4096)
    per_host: int = runtime(16, "downloads at once from one host", ge=1, le=4096)
    threads: int | None = runtime(None, "threads that check and resize; one a core", ge=1)
    buffer_mb: int = runtime(256, "megabytes of images held in memory at once", ge=1)
    connect_timeout_s: float = runtime(10.0, "seconds to connect", gt=0)
    stall_timeout_s: float = runtime(20.0, "seconds without a byte", gt=0)
    total_timeout_s: float = runtime(120.0, "seconds for one try", gt=0)
    retries: int = runtime(2, "tries after the first, where that may help", ge=0, le=20)
    max_retry_after_s: float = runtime(60.0, "longest wait a site may ask for", ge=0)

    @field_validator("allow_private_addresses")
    @classmethod
    def _networks(cls, value: bool | list[str]) -> bool | list[str]:
        for network in value if isinstance(value, list) else []:
            ipaddress.ip_network(network)
        return value

    def limits(self) -> FetchLimits:
        """What of this concerns a single fetch."""
        networks: tuple[str, ...] | None
        if isinstance(self.allow_private_addresses, bool):
            networks = None if self.allow_private_addresses else ()
        else:
            networks = tuple(self.allow_private_addresses)
        shared = {
            name: getattr(self, name)
            for name in FetchLimits.__slots__
            if name in type(self).model_fields
        }
        return FetchLimits(allowed_networks=networks, **shared)


def open_download(params: DownloadParams) -> StageFunction:
    """The stage's function: rows in, IMAGES rows out, in order."""

    def run(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        return _Downloader(params).run(batches)

    return run


STAGE = Stage(
    name="download",
    group="images",
    version=1,
    reads={"samples": ("url", "path")},
    schema=IMAGES,
    params=DownloadParams,
    open=open_download,
    workers="one",
    reuses_rows=True,
    batch_rows=64,
)


def describe(data: bytes, params: DownloadParams) -> Row:
    """Everything the images group says about the bytes of one file. Raises ImageProblem."""
    facts = images.read_header(data, max_pixels=params.max_pixels)
    width, height, mime, orientation = facts.width, facts.height, facts.mime, facts.orientation
    small, resized = None, False
    if params.resize is not None and needs_resize(facts, params.resize):
        data, pixels = resize(data, facts, params.resize)
        height, width = pixels.shape[:2]
        mime, orientation, resized = f"image/{params.resize.format}", 1, True
        small = images.grey_thumbnail(pixels)
    elif params.decode_check:
        small = images.check_decodes(data, facts)
    phash = None
    if small is not None and params.perceptual_hash:
        phash = images.perceptual_hash(small)
    return {
        "status": "ok",
        "bytes": data,
        "mime": mime,
        "width": width,
        "height": height,
        "exif_orientation": orientation,
        "resized": resized,
        "sha256": images.sha256(data),
        "phash": phash,
    }


def _outcome(fetched: Fetched, params: DownloadParams) -> Row:
    """The row for what was fetched; an image that is no good becomes a verdict."""
    row: Row = {
        "status": fetched.status,
        "detail": fetched.detail,
        "http_status": fetched.http_status,
    }
    if fetched.body is not None:
        try:
            row |= describe(fetched.body, params)
        except images.ImageProblem as problem:
            row |= {"status": problem.status, "detail": problem.detail}
    return row


@dataclass(slots=True)
class _Job:
    """One row on its way: made from its earlier version, a local file, or a url."""

    id: str
    url: str | None
    path: str | None
    earlier: Row | None
    same_settings: bool
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
        yield _Job(row["id"], row["url"], row["path"], earlier, batch.same_settings)


class _Downloader:
    """An event loop in a thread, a pool for the processor's work, rows out in order.

    Three bounds hold at once: connections (``concurrency``), rows on their way (four times that
    and the table being made), and bytes of finished rows that wait for an older one (``buffer_mb``). The oldest row
    was started first and never waits, so a full buffer always drains.
    """

    def __init__(self, params: DownloadParams) -> None:
        self._params = params
        self._limits = params.limits()
        self._pool = ThreadPoolExecutor(params.threads or os.cpu_count() or 1, "surd-images")
        self._jobs: queue.SimpleQueue[_Job | Exception | None] = queue.SimpleQueue()
        self._files = LocalFiles()
        self._started = threading.Event()
        self._buffer_bytes = params.buffer_mb * 1_000_000
        self._held_bytes = 0

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
                if len(done) == STAGE.batch_rows or held_bytes > self._buffer_bytes / 4:
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
        self._connections = asyncio.Semaphore(self._params.concurrency)
        self._window = asyncio.Semaphore(4 * self._params.concurrency + STAGE.batch_rows)
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
            self._limits, per_host=self._params.per_host, contact=self._params.contact
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
                self._pool.submit(_settle, job.row, fetched, self._params)
        except BaseException as error:
            job.row.set_exception(error)
            raise
        finally:
            self._connections.release()

    def _local_row(self, job: _Job) -> Row:
        """The row of a job that needs no network; runs in the pool."""
        if job.earlier is not None:
            http_status, body = job.earlier["http_status"], job.earlier["bytes"]
            return _outcome(Fetched("ok", None, http_status, body), self._params)
        if job.path is not None:
            return _outcome(self._files.read(job.path, self._params.max_bytes), self._params)
        return {"status": "no_location", "detail": "neither url nor path"}

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


def _settle(row: Future[Row], fetched: Fetched, params: DownloadParams) -> None:
    try:
        row.set_result(_outcome(fetched, params))
    except Exception as error:
        row.set_exception(error)
