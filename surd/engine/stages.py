"""Running a stage over parts, by any engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from surd.engine.parts import PartResult, StageError, compute
from surd.engine.plan import PartState
from surd.engine.select import Engine
from surd.engine.whole_table import compute_table
from surd.engine.work import Work
from surd.errors import SurdError
from surd.params import Params
from surd.progress import Tick
from surd.stages.base import Stage, StageFunction
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
    """Compute the parts ``jobs`` of a stage; yield each as it is done, in no certain order.

    When a part fails its error is recorded and shown by ``surd status``, and the others go on.
    ``workers`` is their number; by default the engine's choice. A stage that looks at the whole
    table runs here: it reads small columns only. Raises SurdError when nothing can go on (disk
    full, a model that cannot be loaded).
    """
    if stage.scope == "table":
        if jobs:
            yield from compute_table(workspace, stage, params, jobs, tick)
        return

    def give_up(job: PartState, why: str) -> PartResult:
        workspace.record_failure(stage.group, job.part, why)
        return PartResult(job.part, {}, why)

    open_ = partial(open_stage, workspace, stage)
    yield from engine.map(workspace, stage, params, jobs, open_, give_up, tick, workers=workers)
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
        raise StageError(f"{stage.name} did not take any rows")
    except Exception as error:
        if _is_fatal(error):
            raise
        text = f"{type(error).__name__}: {error}".split("\n", 1)[0]
        workspace.record_failure(stage.group, job.part, text)
        return PartResult(job.part, {}, text)


def _is_fatal(error: Exception) -> bool:
    return isinstance(error, SurdError) and not isinstance(error, DamagedPartError)
