"""Running a stage over parts, by any engine."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import cast

from surd.engine.parts import PartResult, StageError, compute
from surd.engine.plan import PartState
from surd.engine.select import Engine
from surd.engine.whole_table import compute_table
from surd.engine.work import Jobs, Results, Work, finished
from surd.errors import SurdError
from surd.params import Params
from surd.progress import Tick
from surd.stages.base import Stage, StageFunction, StageParams
from surd.store.workspace import DamagedPartError, Workspace


def run_stage(
    engine: Engine,
    workspace: Workspace,
    stage: Stage,
    params: Params,
    jobs: Sequence[PartState],
    tick: Tick,
    *,
    workers: int | None = None,
) -> Iterator[PartResult]:
    """Compute the parts ``jobs`` of a stage, as :func:`compute_jobs`."""
    if jobs:
        yield from finished(
            compute_jobs(engine, workspace, stage, params, Jobs(jobs), tick, workers=workers)
        )


def compute_jobs(
    engine: Engine,
    workspace: Workspace,
    stage: Stage,
    params: Params,
    jobs: Jobs,
    tick: Tick,
    *,
    workers: int | None = None,
    beside: Sequence[StageParams] = (),
) -> Results:
    """Compute parts of a stage, and those that come meanwhile, because others run ``beside`` it.

    When a part fails its error is recorded and shown by ``surd status``, and the others go on.
    ``workers`` is their number; by default the engine's choice. A stage that looks at the whole
    table runs here: it reads small columns only. Raises SurdError when nothing can go on (disk
    full, a model that cannot be loaded).
    """
    if stage.scope == "table":
        yield from compute_table(
            workspace, stage, params, cast("list[PartState]", list(jobs.now())), tick
        )
        return

    def give_up(job: PartState, why: str) -> PartResult:
        workspace.record_failure(stage.group, job.part, why)
        return PartResult(job.part, {}, why)

    open_ = partial(open_stage, workspace, stage)
    try:
        yield from engine.map(
            workspace,
            stage,
            params,
            jobs,
            open_,
            give_up,
            tick,
            workers=workers,
            beside=beside,
        )
    finally:
        workspace.storage.remove_leftovers(stage.group)  # of workers that died


def open_stage(workspace: Workspace, stage: Stage, params: Params) -> Work:
    """Load what the stage needs; return what computes parts. Raises SurdError."""
    function = stage.open(params)
    return lambda jobs, tick: _one_stream(workspace, stage, params, function, jobs, tick)


def _one_stream(
    workspace: Workspace,
    stage: Stage,
    params: Params,
    function: StageFunction,
    jobs: Iterable[PartState],
    tick: Tick,
) -> Iterator[PartResult]:
    """One stream over all parts; after an error, the part it stopped at alone, then the rest."""
    coming = iter(jobs)
    taken: dict[int, PartState] = {}

    def remaining() -> Iterator[PartState]:
        yield from list(taken.values())
        for job in coming:
            taken[job.part] = job
            yield job

    for first in coming:
        taken[first.part] = first
        while taken:
            try:
                for result in compute(workspace, stage, params, function, remaining(), tick):
                    del taken[result.part]
                    yield result
                if taken:
                    raise StageError(f"{stage.name} did not take all rows")
            except Exception as error:
                job = next(chain(taken.values(), coming), None)
                if job is None or _is_fatal(error):
                    raise
                taken.pop(job.part, None)
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
        raise StageError(f"{stage.name} did not take any rows")
    except Exception as error:
        if _is_fatal(error):
            raise
        text = f"{type(error).__name__}: {error}".split("\n", 1)[0]
        workspace.record_failure(stage.group, job.part, text)
        return PartResult(job.part, {}, text)


def _is_fatal(error: Exception) -> bool:
    return isinstance(error, SurdError) and not isinstance(error, DamagedPartError)
