"""Runs what hostile files are given to in a child that may take a gigabyte."""

from __future__ import annotations

import subprocess
import sys

LIMIT_MB = 1024
"""Data that the child may take; the libraries alone map far more, and touch little of it."""

_HEAD = """
import resource, sys
from pathlib import Path
def limit(mb):
    resource.setrlimit(resource.RLIMIT_DATA, (mb << 20, mb << 20))
def peak_mb():
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) // 1024
"""


def in_a_gigabyte(code: str, *arguments: object, mb: int = LIMIT_MB) -> str:
    """What `code` prints. It fails where that, its imports among it, takes more than `mb`."""
    script = f'{_HEAD}limit({mb})\n{code}\nassert peak_mb() < {mb}, f"took {{peak_mb()}} MB"\n'
    ran = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        env={"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "2", "PYTHONPATH": ":".join(sys.path)},
    )
    assert ran.returncode == 0, f"exit code {ran.returncode}: {ran.stderr[-800:]}"
    return ran.stdout.strip()
