"""Many small things of a remote store at once, and never too many."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import count, islice

import pytest

from surd.store.prefetch import ahead
from surd.store.storage import Storage

REMOTE = "memory://ahead"


def test_results_come_in_order_from_several_threads() -> None:
    names: set[str] = set()

    def slow_first(item: int) -> int:
        names.add(threading.current_thread().name)
        time.sleep(0.02 if item == 0 else 0)
        return item * item

    found = list(ahead(Storage(REMOTE), range(20), slow_first, 4))
    assert found == [n * n for n in range(20)]
    assert len(names) > 1 and "MainThread" not in names


def test_no_more_are_begun_than_may_be_on_their_way() -> None:
    begun: list[int] = []

    def items() -> Iterator[int]:
        for item in count():
            begun.append(item)
            yield item

    results = ahead(Storage(REMOTE), items(), str, 4)
    assert list(islice(results, 3)) == ["0", "1", "2"]
    assert len(begun) == 6
    results.close()  # type: ignore[attr-defined]


def test_an_error_comes_where_its_item_stood() -> None:
    results = ahead(Storage(REMOTE), [1, 0, 2], lambda item: 1 // item, 4)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_on_a_local_disk_nothing_is_done_before_it_is_asked_for(tmp_path: object) -> None:
    done: list[int] = []
    results = ahead(Storage(str(tmp_path)), range(10), done.append, 4)
    next(results)
    assert done == [0]
