"""Work that several processes share: its order, and what becomes of it when one of them dies."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil

from surd.sources.in_processes import in_processes


def doubled(up: Path, number: int) -> tuple[int, bool]:
    """Twice the number, and whether that was found here; any other process dies at 5."""
    is_here = multiprocessing.parent_process() is None
    if not is_here:
        if number == 5:
            os._exit(1)
        up.touch()
    return 2 * number, is_here


def numbers(up: Path, count: int, first: int = 0) -> Iterator[int]:
    """Tasks; all but the first wait until a process has done one."""
    for number in range(first, first + count):
        yield number
        while not up.exists():
            time.sleep(0.01)
        time.sleep(0.01)


def test_results_come_in_order_and_from_processes(tmp_path: Path) -> None:
    up = tmp_path / "up"
    results = list(in_processes(partial(doubled, up), numbers(up, 30, first=10), 2))
    assert [number for number, _ in results] == list(range(20, 80, 2))
    assert sum(is_here for _, is_here in results) < 15


def test_no_task_needs_no_result(tmp_path: Path) -> None:
    assert list(in_processes(partial(doubled, tmp_path), [], 2)) == []


def test_what_a_process_dies_at_is_done_here_and_so_are_its_later_tasks(tmp_path: Path) -> None:
    up = tmp_path / "up"
    results = list(in_processes(partial(doubled, up), numbers(up, 12), 1))
    assert [number for number, _ in results] == list(range(0, 24, 2))
    assert not results[4][1] and all(is_here for _, is_here in results[5:])


def test_processes_end_with_who_gives_no_more_tasks(tmp_path: Path) -> None:
    given = in_processes(partial(doubled, tmp_path), range(10, 1000), 2)
    next(given)
    assert len(multiprocessing.active_children()) == 2
    given.close()
    assert not multiprocessing.active_children()


def test_processes_end_with_a_process_that_was_killed() -> None:
    code = (
        "import time\n"
        "from surd.sources.in_processes import in_processes\n"
        "for _ in in_processes(time.sleep, [0.01] * 10**6, 2): print(flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        children = psutil.Process(process.pid).children()
        os.kill(process.pid, signal.SIGKILL)
    until = time.monotonic() + 30
    while any(child.is_running() for child in children) and time.monotonic() < until:
        time.sleep(0.05)
    assert children and not [child for child in children if child.is_running()]
