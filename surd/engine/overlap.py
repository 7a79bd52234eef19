"""Stages side by side: a part goes on to the next stage while other parts are still behind it.

A stage computes a part once the stages that make what it reads are done with that part. One that
looks at the whole table waits for all parts.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field

from surd.engine.plan import PartState, plan
from surd.engine.work import Jobs, Results
from surd.params import Params
from surd.stages.base import Stage, StageParams
from surd.store.workspace import Workspace

_PAUSE_S = 0.02


@dataclass
class Step:
    """A stage on its way over the parts."""

    stage: Stage
    params: Params
    after: list[Step]
    """Those that make what it reads."""
    unseen: set[int]
    """Parts whose inputs may still change."""
    open: set[int]
    """Parts that it is not done with: those, and the ones that are being computed."""
    jobs: Jobs = field(default_factory=lambda: Jobs(complete=False))
    results: Results | None = None
    fresh: int = 0
    computed: int = 0
    failed: dict[int, str] = field(default_factory=dict)
    """Part -> why it could not be computed."""
    began_s: float | None = None
    seconds: float = 0.0
    """From its first part to its last."""
    is_done: bool = False
    open_before_it: int = -1
    """Parts that the steps it comes after were not done with when it last looked."""

    def close(self) -> None:
        """End what is being computed."""
        if self.results is not None:
            self.results.close()


Compute = Callable[[Step, Sequence[StageParams]], Results]
Around = Callable[[Stage], AbstractContextManager[None]]


def overlap(
    workspace: Workspace,
    stages: Sequence[StageParams],
    is_due: Callable[[PartState, Stage], bool],
    compute: Compute,
    around: Around = lambda stage: nullcontext(),
) -> Iterator[Step]:
    """Run the stages, and yield each once it and those before it are done.

    ``compute`` is called for a step that has something to do, with the stages that may run beside
    it, and computes the step's jobs, also those that come meanwhile. Steps take turns in this
    process, a part at a time, within ``around``; what an engine computes elsewhere goes on beside
    that. Raises what ``compute`` raises.
    """
    parts = workspace.parts("samples")
    rows: dict[int, int] = {}
    steps: list[Step] = []
    for stage, params in stages:
        after = [step for step in steps if step.stage.group in stage.reads]
        steps.append(Step(stage, params, after, set(parts), set(parts)))
    untold = deque(steps)
    with ExitStack() as stack:
        for step in steps:
            stack.callback(step.close)
        while untold:
            running = [step for step in steps if not step.is_done]
            has_moved = False
            for step in running:
                with around(step.stage):
                    _look(workspace, step, rows, is_due)
            for step in running:
                with around(step.stage):
                    has_moved |= _go_on(step, running, rows, compute)
            while untold and untold[0].is_done:
                yield untold.popleft()
            if not has_moved:
                time.sleep(_PAUSE_S)


def _look(
    workspace: Workspace,
    step: Step,
    rows: dict[int, int],
    is_due: Callable[[PartState, Stage], bool],
) -> None:
    """Find out which parts can be computed now, and have to be; notes their ``rows``."""
    open_before_it = sum(len(other.open) for other in step.after)
    if open_before_it == step.open_before_it:
        return
    step.open_before_it = open_before_it
    waiting = set[int]().union(*(other.open for other in step.after))
    if step.stage.scope == "table" and waiting:
        return
    parts = sorted(step.unseen - waiting)
    if parts and step.began_s is None:
        step.began_s = time.monotonic()
    step.unseen -= set(parts)
    step.jobs.complete = not step.unseen
    for state in plan(workspace, step.stage, step.params, parts) if parts else ():
        rows[state.part] = state.rows
        if is_due(state, step.stage):
            step.jobs.add(state)
            continue
        step.open.discard(state.part)
        if state.state == "waiting":
            step.failed[state.part] = state.why
        else:
            step.fresh += 1
    if step.began_s is not None:
        step.seconds = time.monotonic() - step.began_s


def _go_on(step: Step, running: Sequence[Step], rows: dict[int, int], compute: Compute) -> bool:
    """Compute one part, or see what has been computed elsewhere; whether there was anything."""
    if step.results is None and step.jobs:
        step.jobs.parts = len(step.open)
        step.jobs.rows = sum(rows[part] for part in step.open)
        others = [one for one in running if one.open and one.stage.scope == "part"]
        step.results = compute(step, [(o.stage, o.params) for o in others if o is not step])
    if step.results is None:
        result, step.is_done = None, step.jobs.complete
    else:
        try:
            result = next(step.results)
        except StopIteration:
            result, step.is_done = None, True
    if result is None:
        return step.is_done
    if step.began_s is not None:
        step.seconds = time.monotonic() - step.began_s
    step.open.discard(result.part)
    if result.error is None:
        step.computed += 1
    else:
        step.failed[result.part] = result.error
    return True
