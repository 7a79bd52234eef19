"""The local engine: in this process, or in one process a core."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

from surd.engine.parts import PartResult, StageError, compute
from surd.engine.whole import compute_table
from surd.errors import SurdError
from surd.plan import PartState
from surd.progress import Tick
from surd.stage import Params, Stage, StageFunction
from surd.workspace import DamagedPartError, Workspace

_ROWS_WORTH_A_PROCESS = 5_000


def run(
    workspace: Workspace,
    stage: Stage,
    params: Params,
    jobs: Sequence[PartState],
    tick: Tick,
    *,
    workers: int | None = None,
) -> Iterator[PartResult]:
    """Compute the parts ``jobs`` of a stage; yield each as it is done, in no certain order.

    When a part fails its error is recorded and shown by ``surd status``, and the others go on.
    ``workers`` is the number of processes; by default one a core where that pays. Raises
    SurdError when nothing can go on (disk full, a model that cannot be loaded).
    """
    if not jobs:
        return
    if stage.scope == "table":
        yield from compute_table(workspace, stage, params, jobs, tick)
        return
    processes = min(workers or _default_workers(jobs), len(jobs))
    if processes > 1 and stage.workers == "cores":
        yield from _run_in_processes(workspace, stage, params, jobs, tick, processes)
    else:
        yield from _run_here(workspace, stage, params, stage.open(params), jobs, tick)


def _default_workers(jobs: Sequence[PartState]) -> int:
    """One process a core, but none that would hardly earn its start."""
    rows = sum(job.rows for job in jobs)
    return max(1, min(os.cpu_count() or 1, rows // _ROWS_WORTH_A_PROCESS))


def _run_here(
    workspace: Workspace,
    stage: Stage,
    params: Params,
    function: StageFunction,
    jobs: Sequence[PartState],
    tick: Tick,
) -> Iterator[PartResult]:
    """One stream over all parts; after an error, the part it stopped at alone, then the rest."""
    remaining = {job.part: job for job in jobs}
    while remaining:
        try:
            for result in compute(
                workspace, stage, params, function, list(remaining.values()), tick
            ):
                del remaining[result.part]
                yield result
            if remaining:
                raise StageError(f"{stage.name} did not take all rows")
        except Exception as error:
            if _is_fatal(error) or not remaining:
                raise
            job = next(iter(remaining.values()))
            del remaining[job.part]
            yield _alone(workspace, stage, params, function, job, tick)


def _alone(
    workspace: Workspace,
    stage: Stage,
    params: Params,
    function: StageFunction,
    job: PartState,
    tick: Tick,
) -> PartResult:
    try:
        for result in compute(workspace, stage, params, function, [job], tick):
            return result
        raise StageError(f"{stage.name} did not take any row")
    except Exception as error:
        if _is_fatal(error):
            raise
        text = f"{type(error).__name__}: {error}".split("\n", 1)[0]
        workspace.record_failure(stage.group, job.part, text)
        return PartResult(job.part, {}, text)


def _is_fatal(error: Exception) -> bool:
    return isinstance(error, SurdError) and not isinstance(error, DamagedPartError)


# processes --------------------------------------------------------------------------------------

_worker: tuple[Workspace, Stage, Params, StageFunction] | None = None


def _run_in_processes(
    workspace: Workspace,
    stage: Stage,
    params: Params,
    jobs: Sequence[PartState],
    tick: Tick,
    processes: int,
) -> Iterator[PartResult]:
    """Every process opens the stage once; a process that dies costs its parts one retry here."""
    remaining = {job.part: job for job in jobs}
    with ProcessPoolExecutor(
        processes,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_open_worker,
        initargs=(workspace.location, stage.name, params),
    ) as pool:
        try:
            for future in as_completed([pool.submit(_work, job) for job in jobs]):
                result = future.result()
                tick(result.counts)
                del remaining[result.part]
                yield result
        except BrokenProcessPool:
            pass
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if remaining:
        left = list(remaining.values())
        yield from _run_here(workspace, stage, params, stage.open(params), left, tick)


def _open_worker(location: str, stage_name: str, params: Params) -> None:
    global _worker
    from surd.pipeline import stage_named

    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=die_with, args=(parent,), daemon=True).start()
    stage = stage_named(stage_name)
    _worker = (Workspace(location), stage, params, stage.open(params))


def die_with(parent: multiprocessing.process.BaseProcess) -> None:
    """A killed parent must leave nobody behind who goes on writing."""
    parent.join()
    os._exit(1)


def _work(job: PartState) -> PartResult:
    assert _worker is not None
    workspace, stage, params, function = _worker
    return _alone(workspace, stage, params, function, job, lambda counts: None)
