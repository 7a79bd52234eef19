"""The local engine: in this process, or in others of this machine."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from functools import partial

from surd.engine.work import GiveUp, Jobs, Open, Results
from surd.engine.workers import SILENCE_S, over_processes
from surd.params import Params
from surd.progress import Tick
from surd.stages.base import Stage, StageParams
from surd.store.workspace import Workspace

_ROWS_WORTH_A_PROCESS = 5_000


class LocalEngine:
    """This machine's processes."""

    def map(
        self,
        workspace: Workspace,
        stage: Stage,
        params: Params,
        jobs: Jobs,
        open_: Open,
        give_up: GiveUp,
        tick: Tick,
        *,
        workers: int | None = None,
        beside: Sequence[StageParams] = (),
    ) -> Results:
        """As the protocol says; ``workers`` is the number of processes, by default one a core
        where that pays.

        Models are in this process, where stages take turns part by part, so a device computes for
        one of them at a time. What uses the network gets a process where that pays: beside it,
        models would wait for Python's lock.
        """
        places = stage.places(params)
        if stage.workers == "cores":
            places = [params] * (workers or _default_workers(jobs))
        places = places[: jobs.parts]
        is_apart = beside and stage.uses_network and jobs.rows >= _ROWS_WORTH_A_PROCESS
        if len(places) > 1 or is_apart:
            opens = [partial(open_, place) for place in places]
            silence_s = math.inf if stage.uses_network else SILENCE_S
            for result in over_processes(opens, jobs, give_up, silence_s):
                if result is not None:
                    tick(result.counts)
                yield result
        elif jobs.parts:
            work = open_(places[0])
            while not jobs.are_done:
                if jobs:
                    yield from work(jobs.now(), tick)
                yield None


def _default_workers(jobs: Jobs) -> int:
    """One process a core, but none that would hardly earn its start."""
    return max(1, min(os.cpu_count() or 1, jobs.rows // _ROWS_WORTH_A_PROCESS))
