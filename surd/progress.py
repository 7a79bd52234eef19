"""Progress of long work: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import contextlib
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Protocol

_LINE_EVERY_S = 10.0
KNOWN = "known"
"""Status of rows that an earlier run did: they are done, and no part of the rate."""


class Tick(Protocol):
    """Reports rows done, by status."""

    def __call__(self, counts: Mapping[str, int]) -> None:
        """Add ``counts``: status -> rows; those under ``KNOWN`` were done before."""


class Begin(Protocol):
    """Begins a line or bar of its own."""

    def __call__(self, name: str, total: int | None, *, done: int = 0) -> Tick:
        """For ``name``, over ``total`` rows (None: unknown), ``done`` of which were done before."""


@contextlib.contextmanager
def track(name: str, total: int | None, *, done: int = 0, quiet: bool = False) -> Iterator[Tick]:
    """Show the progress of ``name`` over ``total`` rows (None: unknown) while the block runs.

    ``done`` of them were done before. Everything goes to standard error, so that standard output
    stays for results.
    """
    with tracks(quiet=quiet) as begin:
        yield begin(name, total, done=done)


@contextlib.contextmanager
def tracks(*, quiet: bool = False) -> Iterator[Begin]:
    """As :func:`track`, for several at once, each from when it begins."""
    if quiet:
        yield lambda name, total, *, done=0: lambda counts: None
    elif sys.stderr.isatty():
        with _bars() as begin:
            yield begin
    else:
        yield _Lines


@contextlib.contextmanager
def _bars() -> Iterator[Begin]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<10}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("[yellow]{task.fields[other]}"),
    )
    # what is printed meanwhile appears above the bars, but a file gets its own
    progress = Progress(*columns, console=Console(stderr=True), redirect_stdout=sys.stdout.isatty())
    with contextlib.ExitStack() as stack:

        def begin(name: str, total: int | None, *, done: int = 0) -> Tick:
            if not progress.tasks:
                stack.enter_context(progress)
            task = progress.add_task(name, total=total, completed=done, rate="", other="")
            sums: Counter[str] = Counter()

            def tick(counts: Mapping[str, int]) -> None:
                sums.update(counts)
                progress.tasks[task].completed += counts.get(KNOWN, 0)
                progress.advance(task, sum(counts.values()) - counts.get(KNOWN, 0))
                speed = progress.tasks[task].speed
                rate = f"{speed:,.{0 if speed >= 10 else 1}f}/s" if speed else ""
                progress.update(task, rate=rate, other=other_than_ok(sums))

            return tick

        yield begin


class _Lines:
    def __init__(self, name: str, total: int | None, *, done: int = 0) -> None:
        self._name, self._total, self._before = name, total, done
        self._sums: Counter[str] = Counter()
        self._started = self._last = time.monotonic()

    def __call__(self, counts: Mapping[str, int]) -> None:
        self._before += counts.get(KNOWN, 0)
        self._sums.update({status: n for status, n in counts.items() if status != KNOWN})
        now = time.monotonic()
        if now - self._last < _LINE_EVERY_S:
            return
        self._last = now
        new = sum(self._sums.values())
        done, rate = self._before + new, new / (now - self._started)
        of = f" of {self._total:,}" if self._total else ""
        left = f", {(self._total - done) / rate:,.0f} s left" if self._total and rate else ""
        other = other_than_ok(self._sums)
        note = f" ({other})" if other else ""
        print(f"{self._name}: {done:,}{of}, {rate:,.1f}/s{left}{note}", file=sys.stderr, flush=True)


def other_than_ok(counts: Mapping[str, int]) -> str:
    """``12 http_error, 3 timeout``: the statuses that are not ok, most frequent first."""
    others = Counter(
        {k: n for k, n in counts.items() if k not in ("ok", "new", "keep", KNOWN) and n}
    )
    return ", ".join(f"{n:,} {status}" for status, n in others.most_common())
