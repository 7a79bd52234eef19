"""The local engine: in this process, or in several of this machine."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial

from surd.engine.parts import PartResult
from surd.engine.work import AnyJob, GiveUp, Open
from surd.engine.workers import over_processes
from surd.params import Params
from surd.progress import Tick
from surd.stages.base import Stage
from surd.store.workspace import Workspace

_ROWS_WORTH_A_PROCESS = 5_000


class LocalEngine:
    """This machine's processes."""

    def map(
        self,
        workspace: Workspace,
        stage: Stage,
        params: Params,
        jobs: Sequence[AnyJob],
        open_: Open,
        give_up: GiveUp,
        tick: Tick,
        *,
        workers: int | None = None,
    ) -> Iterator[PartResult]:
        """As the protocol says; ``workers`` is the number of processes, by default one a core
        where that pays."""
        places = stage.places(params)
        if stage.workers == "cores":
            places = [params] * (workers or _default_workers(jobs))
        places = places[: len(jobs)]
        if len(places) > 1:
            opens = [partial(open_, place) for place in places]
            for result in over_processes(opens, jobs, give_up):
                tick(result.counts)
                yield result
        elif jobs:
            yield from open_(places[0])(jobs, tick)


def _default_workers(jobs: Sequence[AnyJob]) -> int:
    """One process a core, but none that would hardly earn its start."""
    rows = sum(job.rows for job in jobs)
    return max(1, min(os.cpu_count() or 1, rows // _ROWS_WORTH_A_PROCESS))
