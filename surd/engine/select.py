"""The engines by name. What is computed does not know which one runs it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

from surd.engine.local import LocalEngine
from surd.engine.work import GiveUp, Jobs, Open, Results
from surd.errors import SurdError
from surd.params import Params
from surd.progress import Tick
from surd.stages.base import Stage, StageParams
from surd.store.workspace import Workspace

EngineName = Literal["local", "ray"]


class Engine(Protocol):
    """Has jobs computed by workers."""

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
        """Compute the jobs, and those that come while it does.

        Each worker calls ``open_`` once, with its share of ``params``, and is handed jobs bit by
        bit. How many there are, and where, depends on what ``stage`` says of itself, and on those
        that run ``beside`` it. Raises what a worker raised, and SurdError when nothing can go on.
        """


@contextlib.contextmanager
def opened(name: EngineName, address: str | None = None) -> Iterator[Engine]:
    """The engine ``name``; ``address`` is that of a Ray cluster, None starts one here."""
    if name == "local":
        if address is not None:
            raise SurdError(
                f"--ray-address {address}: has no effect without --engine ray; add that"
            )
        yield LocalEngine()
        return
    from surd.engine.ray import RayEngine

    engine = RayEngine(address)
    try:
        yield engine
    finally:
        engine.close()
