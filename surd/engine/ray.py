"""The Ray engine: actors over the same parts, on one machine or many.

Workers read and write the workspace themselves; only the numbers of parts and rows pass through
Ray. So the workspace has to be where every machine sees it: an object store or a shared folder.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import partial
from typing import Any

from surd import __version__
from surd.engine.actors import over_actors
from surd.engine.cluster import Seats, connect, machines, seats
from surd.engine.work import GiveUp, Jobs, Open, Results, Work
from surd.errors import SurdError
from surd.params import Params
from surd.progress import Tick
from surd.stages.base import Stage, StageParams
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
        """As :class:`surd.engine.select.Engine` says; ``workers`` is the number of actors."""
        if not jobs.parts:
            return
        self._connect()
        places = seats(stage, params, workers, jobs.parts, machines(), beside)
        params = shared_among(stage, params, places)
        open_there = partial(open_on_machine, __version__, workspace, open_, params)
        for result in over_actors(open_there, jobs, places, give_up):
            if result is not None:
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


# on the cluster ---------------------------------------------------------------------------------


def open_on_machine(version: str, workspace: Workspace, open_: Open, params: Params) -> Work:
    """Open the work where it has the same surd and sees the same workspace. Raises SurdError."""
    host = socket.gethostname()
    if version != __version__:
        raise SurdError(
            f"{host} has surd {__version__}, but this machine has {version}; install the same "
            "version on all machines of the cluster"
        )
    if not workspace.parts("samples"):
        raise SurdError(
            f"{workspace.location}: {host}, a machine of the Ray cluster, sees no samples "
            "there; use a workspace in an object store (s3://...) or in a folder that all "
            "machines share"
        )
    return open_(params)
