"""Connecting to a Ray cluster, quietly, and what it has to offer."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from surd.errors import SurdError
from surd.params import Params
from surd.stages.base import Stage, StageParams

log = logging.getLogger("surd")

_OBJECT_STORE_BYTES = 100_000_000
"""Rows never pass through Ray: workers read and write the workspace themselves."""
_ANSWER_S = 10.0


@dataclass(frozen=True)
class Seats:
    """How many actors a stage gets, and what each asks of the machine it runs on."""

    actors: int
    cpus: float
    gpus: float


def connect(address: str | None) -> bool:
    """Join the cluster at ``address`` (or ``RAY_ADDRESS``), or start one on this machine.

    True when this made a connection, which is then to be ended with ``ray.shutdown``; False when
    there was one. Raises SurdError when Ray is missing or no cluster answers.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise SurdError('--engine ray needs Ray: pip install "surd[ray]"') from None
    address = address or os.environ.get("RAY_ADDRESS")
    if address and address.startswith("ray://"):
        raise SurdError(
            f"--ray-address {address}: Ray Client is not supported; run surd on a machine of the "
            "cluster with --ray-address auto, or through: ray job submit"
        )
    _keep_stdout_clean()
    if ray.is_initialized():
        return False
    check_answers(address)
    own = {} if address else {"object_store_memory": _OBJECT_STORE_BYTES}
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level="ERROR",
            **own,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _no_cluster(address, str(error).split("\n", 1)[0]) from error
    return True


def check_answers(address: str | None) -> None:
    """Ray itself would try for minutes, and write a line every few seconds."""
    host, _, port = (address or "").rpartition(":")
    if not host or not port.isdecimal():
        return
    try:
        socket.create_connection((host, int(port)), _ANSWER_S).close()
    except OSError as error:
        raise _no_cluster(address, error.strerror or str(error)) from error


def _no_cluster(address: str | None, why: str) -> SurdError:
    return SurdError(
        f"--ray-address {address or 'local'}: {why}; is the cluster running? start one with: "
        "ray start --head"
    )


def _keep_stdout_clean() -> None:
    """Ray tells of dead workers on standard output, which is for results, and has no setting for
    that; what dies is retried and told by us."""
    import ray

    try:
        from ray._private import worker
    except ImportError:
        worker = None
    if not hasattr(worker, "print_to_stdstream"):
        log.warning("Ray %s reports dead workers on standard output", ray.__version__)
        return
    worker.print_to_stdstream = lambda *args, **kwargs: None


def machines() -> list[Mapping[str, float]]:
    """The resources of each machine that is up and has a core to give."""
    import ray

    found = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [resources for resources in found if resources.get("CPU", 0) >= 1]


def seats(
    stage: Stage,
    params: Params,
    workers: int | None,
    parts: int,
    offered: Sequence[Mapping[str, float]],
    beside: Sequence[StageParams] = (),
) -> Seats:
    """As many as :func:`_seats_alone`, each with its share of what it would get without the stages
    that run ``beside``: so all find room at once, and none waits for another to end."""
    alone = _seats_alone(stage, params, workers, parts, offered)
    on_gpus = sum(_wants_gpu(others) for _, others in beside)
    return Seats(alone.actors, _share(alone.cpus, 1 + len(beside)), _share(alone.gpus, 1 + on_gpus))


def _share(count: float, among: int) -> float:
    """Of cores or GPUs; Ray takes only whole numbers above one."""
    return count // among if count >= among else count / among


def _wants_gpu(params: Params) -> bool:
    """Whether a stage uses a GPU where there is one."""
    return getattr(params, "device", "cpu") != "cpu"


def _seats_alone(
    stage: Stage,
    params: Params,
    workers: int | None,
    parts: int,
    offered: Sequence[Mapping[str, float]],
) -> Seats:
    """A GPU an actor where the stage can use one; else a core an actor, or a machine an actor for
    stages that are concurrent by themselves. ``workers`` asks for another number of actors. No
    more than any limit that they share, since each gets at least one of it."""
    if not offered:
        raise SurdError("the Ray cluster has no machine with a free core")
    gpus = [int(resources.get("GPU", 0)) for resources in offered]
    if _wants_gpu(params) and any(gpus):
        each = max(gpus) if getattr(params, "device", None) == "map" else 1
        places = sum(count // each for count in gpus)
        return Seats(min(workers or places, places, parts), 1, each)
    cores = [int(resources["CPU"]) for resources in offered]
    if stage.workers == "cores":
        return Seats(min(workers or sum(cores), sum(cores), parts), 1, 0)
    limits = [getattr(params, name) for name in stage.limits]
    actors = min(workers or len(cores), len(cores) * min(cores), parts, *limits)
    on_one = math.ceil(actors / len(cores))
    return Seats(actors, max(1, min(cores) // on_one), 0)
