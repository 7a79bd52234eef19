"""One writer at a time where files cannot be locked: a lease, written beside the data and renewed.

Object stores have no locks that end with their holder. So the holder writes who it is and until
when, and renews that while it lives; what a killed process left is void once it has run out, and at
once for another process of the same machine. Two that begin in the same moment each write, wait,
and look: the last to have written holds it.

Who holds it looks before every write whether that is still so. A process that was asleep for longer
than its lease finds another's there, or none, and stops. S3 refuses to replace a lease that has
changed since it was read (conditional writes); elsewhere some moments lie between the look and the
write, and the one that comes second finds out when it looks again.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from surd.errors import WorkspaceError, one_line
from surd.store.processes import has_ended, own_name
from surd.store.storage import Storage
from surd.untrusted import parse_json

LASTS_S = 300.0
_RENEW_EVERY_S = 60.0
SETTLES_S = 1.0
"""More than reading and writing the lease takes, so that of two the later one is seen by both."""


_KINDS: Mapping[str, Any] = {"until": float, "pid": int}
"""What a lease says in other than texts; what says it otherwise says nothing."""


class LostLeaseError(WorkspaceError):
    """Another process has taken the lease, or somebody deleted it."""


@contextlib.contextmanager
def lease(storage: Storage, name: str) -> Iterator[str]:
    """Hold ``name`` while the block runs, and let ``storage`` be written only while it is held.

    Gives the token by which workers :func:`share` it. Raises WorkspaceError when another process
    holds it, and LostLeaseError, at the next write, when one has taken it.
    """
    token = secrets.token_hex(8)
    version = storage.version(name)  # before the content, which may then be newer, never older
    found = _read(storage, name)
    if "token" in found and not _is_void(found):
        raise _refusal(storage, name, found)
    _write(storage, name, _ours(token), version)
    time.sleep(SETTLES_S)
    found = _read(storage, name)
    if found.get("token") != token:
        raise _refusal(storage, name, found)
    ended = threading.Event()
    renewing = threading.Thread(target=_renew, args=(storage, name, token, ended), daemon=True)
    renewing.start()
    before = storage.may_write
    share(storage, name, token)
    try:
        yield token
    finally:
        storage.may_write = before
        ended.set()
        renewing.join()
        with contextlib.suppress(WorkspaceError):  # it is another's by now, or runs out
            keep(storage, name, token)
            storage.delete(name)


def _ours(token: str) -> dict[str, Any]:
    whose = {"host": socket.gethostname(), "pid": os.getpid(), "process": own_name()}
    return {"token": token, **whose}


def share(storage: Storage, name: str, token: str) -> None:
    """Let ``storage`` be written only while the lease with this token is held: in the process that
    holds it, and in its workers."""
    storage.may_write = partial(keep, storage, name, token)


def keep(storage: Storage, name: str, token: str) -> None:
    """Look whether the lease is held, and renew it when a part of its time is over.

    Raises LostLeaseError.
    """
    found = _read(storage, name)
    if found.get("token") == token and _left_s(found) < LASTS_S - _RENEW_EVERY_S / 2:
        version = storage.version(name)
        if _read(storage, name).get("token") == token:  # so it is ours that has this version
            _write(storage, name, found, version)
        found = _read(storage, name)
    if found.get("token") != token:
        by = f"by {_who(found)}" if found else "which has ended since"
        raise LostLeaseError(
            f"{storage.location}: another surd process has taken over here ({by}) while this "
            "one was held up, so this one stops. Rerun the same command once the other has "
            "ended; finished work is kept"
        )


def _renew(storage: Storage, name: str, token: str, ended: threading.Event) -> None:
    while not ended.wait(_RENEW_EVERY_S):
        try:
            keep(storage, name, token)
        except LostLeaseError:  # told by the next write
            return
        except WorkspaceError:  # tried again well before it runs out
            continue


def _refusal(storage: Storage, name: str, found: Mapping[str, Any]) -> WorkspaceError:
    return WorkspaceError(
        f"{storage.location}: another surd process is writing here ({_who(found)}); wait for it "
        f"or stop it. If it no longer exists, wait {LASTS_S / 60:.0f} minutes or delete "
        f"{storage.location}/{name}"
    )


def _who(found: Mapping[str, Any]) -> str:
    """The holder of a lease, whose words may be anybody's."""
    return one_line(f"pid {found.get('pid')} on {found.get('host')}")


def _is_void(found: Mapping[str, Any]) -> bool:
    return _left_s(found) < 0 or has_ended(str(found.get("process")))


def _left_s(found: Mapping[str, Any]) -> float:
    until: float = found.get("until", 0)
    return until - time.time()


def _read(storage: Storage, name: str) -> dict[str, Any]:
    try:
        found = parse_json(storage.read_bytes(name))
    except (FileNotFoundError, ValueError):
        return {}
    if not isinstance(found, dict):
        return {}
    return {
        name: value for name, value in found.items() if isinstance(value, _KINDS.get(name, str))
    }


def _write(storage: Storage, name: str, holder: Mapping[str, Any], version: str | None) -> None:
    content = {**holder, "until": time.time() + LASTS_S}
    storage.write_over(name, json.dumps(content).encode(), version)
