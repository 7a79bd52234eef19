"""What it costs that every url is on a host of its own: 20,000 hosts against one, beside aiohttp.

    python benchmarks/many_hosts.py [--urls 20000]

All names lead to one server on loopback that gives small pictures, as a name server there says. It
needs Linux and root, for port 53 and a resolv.conf that only the measured command sees.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from _common import (
    BenchmarkError,
    format_table,
    hardware,
    hardware_line,
    run_timed,
    say,
    write_results,
)
from dead_hosts import RECIPE, good_host

from surd.stages.download.stage import DownloadParams

CASES = {
    "one host": (False, False, False),
    "as many hosts as urls": (True, False, False),
    "one host, robots.txt asked for": (False, True, False),
    "as many hosts, robots.txt asked for": (True, True, False),
    "aiohttp alone: one host": (False, False, True),
    "aiohttp alone: as many hosts as urls": (True, False, True),
}
"""Name -> many hosts, robots.txt, aiohttp alone. That keeps nothing and decodes nothing."""
IN_PRIVATE = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
"""With a resolv.conf of its own, given to ``unshare --mount sh -c``."""


class _Names(asyncio.DatagramProtocol):
    """Answers every question for an IPv4 address with 127.0.0.1, and others with nothing."""

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def datagram_received(self, data: bytes, addr: Any) -> None:
        end = data.index(b"\0", 12) + 5
        asks_ipv4 = data[end - 4 : end - 2] == b"\0\1"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x7f\0\0\1" if asks_ipv4 else b""
        counts = b"\0\1" + (b"\0\1" if answer else b"\0\0") + b"\0\0\0\0"
        self._transport.sendto(data[:2] + b"\x81\x80" + counts + data[12:end] + answer, addr)


def _serve_names(ready: Any) -> None:
    async def serve() -> None:
        loop = asyncio.get_running_loop()
        await loop.create_datagram_endpoint(_Names, local_addr=("127.0.0.1", 53))
        ready.set()
        await asyncio.Event().wait()

    asyncio.run(serve())


@contextlib.contextmanager
def name_server() -> Iterator[None]:
    """On port 53 of loopback."""
    context = get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_serve_names, args=(ready,))
    process.start()
    try:
        if not ready.wait(30):
            raise BenchmarkError("no name server on port 53 of 127.0.0.1")
        yield
    finally:
        process.terminate()
        process.join()


def run(
    folder: Path, port: int, urls: int, *, many: bool, robots: bool, bare: bool
) -> dict[str, Any]:
    """Seconds of the download stage, or of aiohttp alone, and processor time of the command."""
    folder.mkdir()
    table, recipe, names = folder / "urls.csv", folder / "recipe.yaml", folder / "resolv.conf"
    names.write_text("nameserver 127.0.0.1\n")
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["url", "prompt"])
        for number in range(urls):
            host = f"host{number if many else 0}.test"
            writer.writerow([f"http://{host}:{port}/{number}.jpg", f"prompt {number}"])
    recipe.write_text(RECIPE.format(table=table, respect_robots=str(robots).lower()))
    surd: list[str | Path] = [
        sys.executable,
        "-m",
        "surd",
        "build",
        recipe,
        "-o",
        folder / "w",
        "-q",
    ]
    private: list[str | Path] = ["unshare", "--mount", "sh", "-c", IN_PRIVATE, names]
    if bare:
        params = DownloadParams()
        at_once = [str(params.concurrency), str(params.per_host)]
        script = Path(__file__).with_name("_bare_aiohttp.py")
        usage = run_timed([*private, sys.executable, script, table, *at_once], folder / "log")
        return {"seconds": float((folder / "log").read_text()), "cpu_s": usage.cpu_s}
    usage = run_timed([*private, *surd, "--until", "download"], folder / "log")
    stage = json.loads((folder / "w" / "surd.json").read_text())["stages"]["download"]
    if stage["counts"] != {"ok": urls}:
        raise BenchmarkError(f"{stage['counts']} came of {urls} good urls")
    return {"seconds": float(stage["seconds"]), "cpu_s": usage.cpu_s}


def main() -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--urls", type=int, default=20_000)
    urls = parser.parse_args().urls
    if sys.platform != "linux" or os.geteuid():
        raise BenchmarkError("needs Linux and root")
    cells: list[list[str]] = []
    results: dict[str, Any] = {}
    scratch = tempfile.TemporaryDirectory(prefix="surd-hosts-")
    with scratch as folder, good_host() as port, name_server():
        for place, (name, (many, robots, bare)) in enumerate(CASES.items()):
            found = run(Path(folder) / str(place), port, urls, many=many, robots=robots, bare=bare)
            results[name] = found
            cells.append([name, f"{found['seconds']:.1f}", f"{found['cpu_s']:.1f}"])
            say(f"{name}: {found['seconds']:.1f} s")
    facts = hardware(["surd", "aiohttp"])
    print(hardware_line(facts))
    print(format_table(["", "seconds", "processor s"], cells))
    write_results("many_hosts", {"hardware": facts, "urls": urls, "results": results})


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"benchmark: {error}")
