"""The local engine: in this process, or in one process a core."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial

from surd.engine.parts import PartResult, StageError, compute
from surd.engine.plan import PartState
from surd.engine.table import compute_table
from surd.engine.workers import Work, over_processes
from surd.errors import SurdError
from surd.params import Params
from surd.progress import Tick
from surd.stages.base import Stage, StageFunction
from surd.store.workspace import DamagedPartError, Workspace

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
        yield from run_here(workspace, stage, params, stage.open(params), jobs, tick)


def _default_workers(jobs: Sequence[PartState]) -> int:
    """One process a core, but none that would hardly earn its start."""
    rows = sum(job.rows for job in jobs)
    return max(1, min(os.cpu_count() or 1, rows // _ROWS_WORTH_A_PROCESS))


def run_here(
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


def _run_in_processes(
    workspace: Workspace,
    stage: Stage,
    params: Params,
    jobs: Sequence[PartState],
    tick: Tick,
    processes: int,
) -> Iterator[PartResult]:
    def give_up(job: PartState, why: str) -> PartResult:
        workspace.record_failure(stage.group, job.part, why)
        return PartResult(job.part, {}, why)

    open_ = partial(_open_worker, workspace.location, workspace.lease, stage.name, params)
    for result in over_processes(open_, jobs, processes, give_up):
        tick(result.counts)
        yield result
    workspace.storage.remove_leftovers(stage.group)  # of workers that died


def _open_worker(location: str, lease: str | None, stage_name: str, params: Params) -> Work:
    from surd.recipe.pipeline import stage_named

    workspace, stage = Workspace(location, lease), stage_named(stage_name)
    function = stage.open(params)
    return lambda job, tick: _alone(workspace, stage, params, function, job, tick)
