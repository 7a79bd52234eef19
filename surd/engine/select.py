"""The engines by name. Stage code does not know which one runs it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal, Protocol

from surd.engine import local
from surd.engine.parts import PartResult
from surd.engine.plan import PartState
from surd.errors import SurdError
from surd.params import Params
from surd.progress import Tick
from surd.stages.base import Stage
from surd.store.workspace import Workspace

EngineName = Literal["local", "ray"]


class Engine(Protocol):
    """Runs stages over parts; raises SurdError when nothing can go on."""

    def run(
        self,
        workspace: Workspace,
        stage: Stage,
        params: Params,
        jobs: Sequence[PartState],
        tick: Tick,
        *,
        workers: int | None = None,
    ) -> Iterator[PartResult]:
        """Compute the parts ``jobs`` of a stage; yield each as it is done, in no certain order."""

    def embed(self, workspace: Workspace, work: Any, tick: Tick) -> Iterator[PartResult]:
        """Compute the vectors that :class:`surd.llm.run.Work` asks for."""


class LocalEngine:
    """This machine's processes."""

    run = staticmethod(local.run)

    def embed(self, workspace: Workspace, work: Any, tick: Tick) -> Iterator[PartResult]:
        """As the protocol says."""
        from surd.llm.run import run

        yield from run(workspace, work, tick)


@contextlib.contextmanager
def opened(name: EngineName, address: str | None = None) -> Iterator[Engine]:
    """The engine ``name``; ``address`` is that of a Ray cluster, None starts one here."""
    if name == "local":
        if address is not None:
            raise SurdError(f"--ray-address {address}: only --engine ray uses it; add that")
        yield LocalEngine()
        return
    from surd.engine.ray import RayEngine

    engine = RayEngine(address)
    try:
        yield engine
    finally:
        engine.close()
