"""One writer at a time where files cannot be locked: a lease, written beside the data and renewed.

Object stores have no locks that end with their holder. So the holder writes who it is and until
when, and writes that anew while it lives; what a killed process left is void once it has run out,
and at once for another process of the same machine. Two that begin in the same moment each write,
wait, and look: the last to have written holds it.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

from surd.errors import WorkspaceError
from surd.store.storage import Storage, is_running

LASTS_S = 300.0
_RENEW_EVERY_S = 60.0
SETTLES_S = 1.0
"""More than reading and writing the lease takes, so that of two the later one is seen by both."""


@contextlib.contextmanager
def lease(storage: Storage, name: str) -> Iterator[None]:
    """Hold ``name`` while the block runs; raises WorkspaceError when another process does."""
    holder = {"host": socket.gethostname(), "pid": os.getpid(), "token": secrets.token_hex(8)}
    _refuse_if_held(storage, name, holder)
    _write(storage, name, holder)
    time.sleep(SETTLES_S)
    _refuse_if_held(storage, name, holder)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(storage, name, holder, ended), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        ended.set()
        renewing.join()
        if _read(storage, name).get("token") == holder["token"]:
            storage.delete(name)


def _refuse_if_held(storage: Storage, name: str, ours: dict[str, Any]) -> None:
    held = _read(storage, name)
    if held.get("token") in (None, ours["token"]) or _is_void(held):
        return
    raise WorkspaceError(
        f"{storage.location}: another surd process is writing here (pid {held.get('pid')} on "
        f"{held.get('host')}); wait for it or stop it. If it is gone, wait "
        f"{LASTS_S / 60:.0f} minutes or delete {storage.location}/{name}"
    )


def _is_void(held: dict[str, Any]) -> bool:
    if time.time() > float(held.get("until", 0)):
        return True
    pid = int(held.get("pid", 0))
    here = held.get("host") == socket.gethostname()
    return here and (pid == os.getpid() or not is_running(pid))  # ours: of a container's last life


def _read(storage: Storage, name: str) -> dict[str, Any]:
    try:
        held = json.loads(storage.read_bytes(name))
    except (FileNotFoundError, ValueError):
        return {}
    return held if isinstance(held, dict) else {}


def _write(storage: Storage, name: str, holder: dict[str, Any]) -> None:
    content = holder | {"until": time.time() + LASTS_S}
    storage.write_bytes(name, json.dumps(content).encode())


def _renew(storage: Storage, name: str, holder: dict[str, Any], ended: threading.Event) -> None:
    while not ended.wait(_RENEW_EVERY_S):
        with contextlib.suppress(WorkspaceError):  # tried again well before it runs out
            _write(storage, name, holder)
