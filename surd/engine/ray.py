"""The Ray engine: actors over the same parts, on one machine or many.

Workers read and write the workspace themselves; only the numbers of parts and rows pass through
Ray. So the workspace has to be where every machine sees it: an object store or a shared folder.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from surd import __version__
from surd.engine.actors import Work, over_actors
from surd.engine.cluster import Seats, connect, machines, seats
from surd.engine.local import run_here
from surd.engine.parts import PartResult
from surd.engine.plan import PartState
from surd.engine.table import compute_table
from surd.errors import SurdError
from surd.params import Params
from surd.progress import Tick
from surd.stages.base import Stage
from surd.store.workspace import Workspace


class RayEngine:
    """A connection to a cluster, made when there is something to compute."""

    def __init__(self, address: str | None = None) -> None:
        self._address = address
        self._ours = False

    def close(self) -> None:
        """End the connection, and the cluster where it was started here."""
        if self._ours:
            import ray

            ray.shutdown()
            self._ours = False

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
        """As :func:`surd.engine.local.run`; ``workers`` is the number of actors.

        A stage that looks at the whole table runs here: it reads small columns only.
        """
        if not jobs:
            return
        if stage.scope == "table":
            yield from compute_table(workspace, stage, params, jobs, tick)
            return
        self._connect()
        places = seats(stage, params, workers, len(jobs), machines())
        params = shared_among(stage, params, places)

        def give_up(job: PartState, why: str) -> PartResult:
            workspace.record_failure(stage.group, job.part, why)
            return PartResult(job.part, {}, why)

        open_ = partial(open_stage, *address_of(workspace), __version__, stage, params)
        for result in over_actors(open_, jobs, places, give_up):
            tick(result.counts)
            yield result

    def embed(self, workspace: Workspace, work: Any, tick: Tick) -> Iterator[PartResult]:
        """A language model's vectors: parts over actors, a GPU and the model in each."""
        from surd.llm.run import reusable

        if not work.jobs:
            return
        self._connect()
        stages = list(work.stages.values())
        places = seats(stages[0], work.params, None, len(work.jobs), machines())

        def give_up(job: Any, why: str) -> PartResult:
            for layer in job.states:
                workspace.record_failure(work.stages[layer].group, job.part, why)
            return PartResult(job.part, {}, why)

        params = shared_among(stages[0], work.params, places)
        there = reusable(workspace, work)
        open_ = partial(open_embedder, *address_of(workspace), __version__, params, there)
        for result in over_actors(open_, work.jobs, places, give_up):
            tick(result.counts)
            yield result

    def _connect(self) -> None:
        self._ours = connect(self._address) or self._ours


def shared_among(stage: Stage, params: Params, places: Seats) -> Params:
    """The parameters for one actor of several: its share of what is a limit for all, and the one
    GPU that Ray shows it, whatever the number of that GPU is."""
    changed: dict[str, Any] = {
        name: getattr(params, name) // places.actors for name in stage.limits
    }
    if places.gpus and getattr(params, "device", None) != "map":
        changed["device"] = "cuda"
    return params.model_copy(update=changed)


def address_of(workspace: Workspace) -> tuple[str, str | None]:
    """Where the workspace lies, whatever folder a worker runs in, and the lease it is held by."""
    storage = workspace.storage
    return str(storage.root) if storage.is_local else workspace.location, workspace.lease


# on the cluster ---------------------------------------------------------------------------------


def open_stage(
    location: str, lease: str | None, version: str, stage: Stage, params: Params
) -> Work:
    """Load what the stage needs; return what computes parts. Raises SurdError."""
    workspace = _open_workspace(location, lease, version)
    function = stage.open(params)
    return lambda jobs, live: run_here(
        workspace, stage, params, function, jobs, lambda counts: live()
    )


def open_embedder(location: str, lease: str | None, version: str, params: Any, there: Any) -> Work:
    """Load the language model; return what computes parts. Raises SurdError."""
    from surd.llm.run import devices_of
    from surd.llm.run import open_embedder as open_

    workspace = _open_workspace(location, lease, version)
    device = devices_of(params.device)[0]
    embed: Callable[..., Iterator[PartResult]] = open_(workspace, params, device)
    return lambda jobs, live: embed(jobs, there, live)


def _open_workspace(location: str, lease: str | None, version: str) -> Workspace:
    import socket

    host = socket.gethostname()
    if version != __version__:
        raise SurdError(
            f"{host} has surd {__version__}, this machine {version}; install the same on all "
            "machines of the cluster"
        )
    workspace = Workspace(location, lease)
    if not workspace.parts("samples"):
        raise SurdError(
            f"{location}: {host}, a machine of the Ray cluster, sees no samples there; use a "
            "workspace on an object store (s3://...) or in a folder that all machines share"
        )
    return workspace
