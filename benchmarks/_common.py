"""What the benchmarks share: a web server, measured processes, tables, result files."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import platform
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa

from surd.store.schema import GROUPS
from surd.store.workspace import Workspace

RESULTS = Path(__file__).parent / "results"
_SAMPLE_EVERY_S = 0.05
_SAMPLE_SELDOM_S = 0.5
_IDLE_FOR_S = 2.0


class BenchmarkError(Exception):
    """Something the user can mend; shown as one line."""


@dataclass(frozen=True)
class Usage:
    """What one command cost."""

    wall_s: float
    cpu_s: float
    """User and system time of the process and all its descendants."""
    other_cpu_s: float
    """Processor time everything else on the machine took meanwhile, the web server included."""


def run_timed(
    command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None
) -> Usage:
    """Run a command as a shell would; its output goes to ``log``. Raises BenchmarkError.

    Nothing is sampled meanwhile, so that measuring costs nothing.
    """
    busy_s = _machine_busy_s()
    started = time.perf_counter()
    with _started(command, log, env) as process:
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
    busy_s = _machine_busy_s() - busy_s
    _check_exit(process.returncode, command, log)
    cpu_s = usage.ru_utime + usage.ru_stime
    return Usage(wall_s, cpu_s, max(0.0, busy_s - cpu_s))


def run_watched(
    command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None = None
) -> float:
    """Run a command; return the peak memory of its process tree in MB, sampled every 50 ms."""
    peak = 0
    with _started(command, log, env) as process:
        tree = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _tree_bytes(tree))
            time.sleep(_SAMPLE_EVERY_S)
    _check_exit(process.returncode, command, log)
    return peak / 1e6


@dataclass(frozen=True)
class Cost:
    """What one long command cost."""

    wall_s: float
    cpu_s: float
    """User and system time of the process and all its descendants that ended before it."""
    peak_mb: float
    """Of the process tree, sampled twice a second."""


def run_measured(command: Sequence[str | Path], log: Path) -> Cost:
    """Run a command that takes long enough for sampling not to matter, and too long to be run twice
    for time and memory. Raises BenchmarkError."""
    peak = 0
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    started = time.perf_counter()
    with _started(command, log, None) as process:
        tree = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, _tree_bytes(tree))
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_SAMPLE_SELDOM_S)
    wall_s = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    _check_exit(process.returncode, command, log)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(wall_s, cpu_s, peak / 1e6)


@contextlib.contextmanager
def _started(
    command: Sequence[str | Path], log: Path, env: Mapping[str, str] | None
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in its own session, so that leaving early ends everything it started."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def peer_python(workdir: Path, *requirements: str) -> Path:
    """A Python of an environment that has the requirements, the peer first; it is made once."""
    folder = workdir / requirements[0].replace("==", "-")
    ready, python = folder / "ready", folder / "bin" / "python"
    if not ready.exists():
        say(f"installing {requirements[0]} in {folder}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *requirements], check=True)
        ready.touch()
    return python


def wait_idle(patience_s: float) -> None:
    """Wait until nothing else runs here, for so long at most."""
    until = time.monotonic() + patience_s
    while time.monotonic() < until:
        before = _machine_busy_s()
        time.sleep(_IDLE_FOR_S)
        if _machine_busy_s() - before < 0.05 * _IDLE_FOR_S * (os.cpu_count() or 1):
            return


def _machine_busy_s() -> float:
    """Processor seconds used on this machine since it started."""
    times = psutil.cpu_times()
    return sum(getattr(times, kind, 0.0) for kind in ("user", "nice", "system", "irq", "softirq"))


def _check_exit(code: int, command: Sequence[str | Path], log: Path) -> None:
    if code != 0:
        tail = "\n".join(log.read_text(errors="replace").splitlines()[-15:])
        raise BenchmarkError(f"{command[0]} ended with {code}:\n{tail}")


def _tree_bytes(root: psutil.Process) -> int:
    """Memory of a process and its descendants."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return sum(_process_bytes(p) for p in [root, *root.children(recursive=True)])
    return 0


def _process_bytes(process: psutil.Process) -> int:
    """Proportional set size (shared pages count once in a tree); resident size without it."""
    try:
        for line in Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        with contextlib.suppress(psutil.Error):
            return int(process.memory_info().rss)
    return 0


def memory_measure() -> str:
    """What :func:`run_watched` adds up on this machine."""
    return "PSS" if Path("/proc/self/smaps_rollup").exists() else "RSS"


# nginx ------------------------------------------------------------------------------------------

_NGINX_CONF = """\
daemon off;
{user}
worker_processes 1;
pid "{work}/nginx.pid";
events {{ worker_connections 4096; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  open_file_cache max=50000 inactive=1h;
  types {{ image/jpeg jpg; }}
  client_body_temp_path "{work}/t1";
  proxy_temp_path "{work}/t2";
  fastcgi_temp_path "{work}/t3";
  uwsgi_temp_path "{work}/t4";
  scgi_temp_path "{work}/t5";
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    root "{root}";
  }}
}}
"""


def find_nginx() -> str:
    """The nginx program. Raises BenchmarkError when it is not installed."""
    found = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    if found is None:
        raise BenchmarkError(
            "nginx is not installed; on Debian and Ubuntu: sudo apt-get install nginx-light, "
            "on macOS: brew install nginx"
        )
    return found


@contextlib.contextmanager
def nginx(root: Path, work: Path) -> Iterator[str]:
    """Serve a folder on loopback while the block runs; gives the base url."""
    program = find_nginx()
    work.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    user = f"user {getpass.getuser()};" if os.geteuid() == 0 else ""
    config, log = work / "nginx.conf", work / "nginx.log"
    config.write_text(_NGINX_CONF.format(user=user, work=work, root=root, port=port))
    process = subprocess.Popen([program, "-e", log, "-p", work, "-c", config])
    try:
        _wait_for_port(port, process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def _wait_for_port(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(100):
        if process.poll() is not None:
            raise BenchmarkError(f"nginx did not start: {log.read_text().strip()}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise BenchmarkError("nginx does not answer")


# workspaces -------------------------------------------------------------------------------------


def write_part(workspace: Workspace, group: str, part: int, columns: Mapping[str, Any]) -> None:
    """Write a part of a group: the columns that are given, and nulls for the others."""
    schema, rows = GROUPS[group], len(columns["id"])
    arrays = [
        pa.array(columns[field.name], field.type)
        if field.name in columns
        else pa.nulls(rows, field.type)
        for field in schema
    ]
    with workspace.writing_part(group, part, schema) as writer:
        writer.write(pa.table(arrays, schema=schema))
        writer.describe(fingerprint="", settings="", inputs={}, extra={})


# results ----------------------------------------------------------------------------------------


def hardware(libraries: Sequence[str]) -> dict[str, Any]:
    """The machine, the Python and the libraries that were measured."""
    return {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": {name: version(name) for name in libraries},
    }


def hardware_line(facts: Mapping[str, Any]) -> str:
    """:func:`hardware` on one line."""
    libraries = ", ".join(f"{name} {v}" for name, v in facts["libraries"].items())
    return (
        f"{facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB, {facts['system']}; "
        f"Python {facts['python']}, {libraries}"
    )


def _cpu_model() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown processor"


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned plain text: first column to the left, the others to the right."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def write_results(name: str, content: Mapping[str, Any]) -> Path:
    """Write ``results/NAME.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return path


def say(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)
