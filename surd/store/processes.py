"""Naming a process so that another machine, or another container, cannot mistake it for its own.

A file system that several machines share brings leases and temporary files together whose process
numbers count for different machines. So a process is named by the machine since it started, by the
container, its number, and when it began.
"""

from __future__ import annotations

import hashlib
import os
import socket
import uuid
from pathlib import Path


def own_name() -> str:
    """What no other process has, here or elsewhere, now or later: three words joined by ``.``."""
    pid = os.getpid()
    return f"{_machine()}.{pid}.{_began(pid)}"


def has_ended(name: str) -> bool:
    """Whether a process is known to have ended. False for what ran elsewhere, which nobody here
    can tell, and for what is no name of a process."""
    machine, _, rest = name.partition(".")
    pid, _, began = rest.partition(".")
    if machine != _machine() or not pid.isdecimal():
        return False
    return not _is_running(int(pid)) or _began(int(pid)) not in ("", began)


def _machine() -> str:
    """Where a number means one process: this machine until it restarts, and within it a container.
    Systems that do not tell are known by their name and network address."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        where = f"{boot} {Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        where = f"{socket.gethostname()} {uuid.getnode()}"
    return hashlib.sha256(where.encode()).hexdigest()[:12]


def _began(pid: int) -> str:
    """Clock ticks from the machine's start to the process's; empty where the system does not tell
    (proc(5), field 22 of ``stat``; a command in parentheses before it may have spaces)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except OSError:  # somebody else's
        return True
    return True
