"""A worker that dies or hangs is replaced; its part is tried once more, then told."""

from __future__ import annotations

import os
import pickle
import time
from functools import partial
from pathlib import Path

import psutil
import pytest
from support_workers import open_, open_chatty

from surd.engine.parts import PartResult
from surd.engine.plan import PartState
from surd.engine.work import Jobs, finished
from surd.engine.workers import over_processes
from surd.errors import ModelError, SurdError
from surd.store.workspace import DamagedPartError

JOBS = [PartState(part, "missing") for part in range(4)]


def run(how: str, diary: Path, *, silence_s: float = 60) -> dict[int, str | None]:
    """Part -> its error, having seen that no process is left."""

    def give_up(job: PartState, why: str) -> PartResult:
        return PartResult(job.part, {}, why)

    try:
        opens = [partial(open_, how, diary)] * 2
        found = list(finished(over_processes(opens, Jobs(JOBS), give_up, silence_s)))
    finally:
        children = psutil.Process(os.getpid()).children()
        assert not [c for c in children if "spawn_main" in " ".join(c.cmdline())]
    assert len(found) == len({result.part for result in found}), "no part twice"
    return {result.part: result.error for result in found}


def tries(diary: Path, part: int) -> list[str]:
    """The processes that had the part."""
    rows = [line.split() for line in diary.read_text().splitlines()]
    return [process for number, process in rows if int(number) == part]


def test_a_worker_that_dies_costs_its_part_a_second_try_in_another(tmp_path: Path) -> None:
    assert run("killed", tmp_path / "diary") == dict.fromkeys(range(4))
    assert len(set(tries(tmp_path / "diary", 1))) == 2
    assert [len(tries(tmp_path / "diary", part)) for part in (0, 2, 3)] == [1, 1, 1]


def test_a_worker_that_hangs_is_stopped_and_its_part_tried_in_another(tmp_path: Path) -> None:
    assert run("hangs", tmp_path / "diary", silence_s=4) == dict.fromkeys(range(4))
    assert len(set(tries(tmp_path / "diary", 1))) == 2


def test_a_worker_that_gives_signs_may_take_longer_than_one_that_gives_none(
    tmp_path: Path,
) -> None:
    assert run("is slow", tmp_path / "diary", silence_s=4) == dict.fromkeys(range(4))
    assert len(tries(tmp_path / "diary", 1)) == 1


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ("killed always", "its worker was killed, probably because memory ran out, 2 times"),
        ("crashes always", "its worker died of SIGABRT, 2 times"),
        ("exits always", "its worker ended with exit code 7, 2 times"),
        ("hangs always", "its worker gave no sign of life for 4 s, 2 times"),
    ],
)
def test_a_part_that_takes_two_workers_with_it_is_told_and_the_others_are_done(
    tmp_path: Path, how: str, why: str
) -> None:
    assert run(how, tmp_path / "diary", silence_s=4) == {0: None, 1: why, 2: None, 3: None}
    assert len(tries(tmp_path / "diary", 1)) == 2


def test_what_ends_all_of_it_is_raised_as_it_was(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^shout.model: there is none$"):
        run("no model", tmp_path / "diary")


def test_an_error_nobody_foresaw_is_raised(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="out of the blue"):
        run("raises always", tmp_path / "diary")


@pytest.mark.parametrize("how", ["a file that ends early", "ends early always"])
def test_a_file_that_ends_early_is_an_error_of_the_work_and_no_end_of_the_worker(
    tmp_path: Path, how: str
) -> None:
    with pytest.raises(RuntimeError, match=r"EOFError\('(Ran out of input|compressed file ended)"):
        run(how, tmp_path / "diary")


def test_a_worker_that_dies_when_it_has_given_its_last_result_costs_nothing(
    tmp_path: Path,
) -> None:
    def give_up(job: PartState, why: str) -> PartResult:
        raise AssertionError(why)

    found = []
    opens = [partial(open_, "dies when idle", tmp_path / "diary")] * 2
    for result in finished(over_processes(opens, Jobs(JOBS[:2]), give_up)):
        found.append(result.part)
        (tmp_path / "received").touch()
    assert found == [1, 0]


def test_whoever_seldom_asks_a_worker_hears_all_that_it_said_since(tmp_path: Path) -> None:
    def give_up(job: PartState, why: str) -> PartResult:
        raise AssertionError(why)

    results = over_processes([partial(open_chatty, tmp_path / "done")], Jobs(JOBS[:1]), give_up)
    found = None
    while found is None and not (tmp_path / "done").exists():  # it starts, and gets its part
        found = next(results)
        time.sleep(0.1)
    time.sleep(0.5)
    assert found is not None or any(next(results) is not None for _ in range(2))
    results.close()


def test_a_worker_that_is_alone_gets_parts_that_come_while_it_works(tmp_path: Path) -> None:
    def give_up(job: PartState, why: str) -> PartResult:
        raise AssertionError(why)

    jobs = Jobs(JOBS[:1], complete=False)
    found = []
    for result in finished(over_processes([partial(open_, "", tmp_path / "d")], jobs, give_up)):
        found.append(result.part)
        if result.part < 3:
            jobs.add(JOBS[result.part + 1])
        jobs.complete = result.part >= 2
    assert found == [0, 1, 2, 3]
    assert len({tries(tmp_path / "d", part)[0] for part in found}) == 1, "in one process"


def test_an_error_that_names_a_damaged_part_comes_through_from_a_worker() -> None:
    error = DamagedPartError("w", "images", 3, "cut off")
    sent = pickle.loads(pickle.dumps(error))
    assert (str(sent), sent.group, sent.part) == (str(error), "images", 3)


def test_workers_that_cannot_start_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(SurdError, match="cannot start a worker process: it ended with exit code 3"):
        run("dies at once", tmp_path / "diary")
