"""What a host that does not work costs the others: seconds of a download with and without it.

    python benchmarks/dead_hosts.py [--urls 10000] [--only refused unreachable silent busy]
    python benchmarks/dead_hosts.py --no-robots

A server on loopback gives small pictures; beside each of its urls the list names one of a host that
refuses connections, lets them time out, accepts them and says nothing, or answers 429 with
``Retry-After: 60``. All settings are surd's own.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import json
import socket
import sys
import tempfile
from collections.abc import Iterator
from io import BytesIO
from multiprocessing import Process, Queue, get_context
from pathlib import Path
from typing import Any

import numpy as np
from _common import (
    BenchmarkError,
    format_table,
    hardware,
    hardware_line,
    run_timed,
    say,
    write_results,
)
from aiohttp import web
from PIL import Image

RECIPE = """\
name: hosts
sources:
  - kind: table
    path: {table}
download:
  allow_private_addresses: true
  respect_robots: {respect_robots}
"""


def _serve(queue: Queue[int], picture: bytes) -> None:
    """A picture for any path; 429 below /busy/."""

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/robots.txt":
            return web.Response(status=404)
        if request.host.startswith("localhost"):
            return web.Response(status=429, headers={"Retry-After": "60"})
        return web.Response(body=picture, content_type="image/jpeg")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as server:
        queue.put(server.getsockname()[1])
        web.run_app(app, sock=server, print=lambda *_: None, access_log=None)


@contextlib.contextmanager
def good_host() -> Iterator[int]:
    """The port of a server that works."""
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    file = BytesIO()
    Image.fromarray(pixels).save(file, "JPEG")
    context = get_context("spawn")
    queue: Queue[int] = context.Queue()
    process: Process = context.Process(target=_serve, args=(queue, file.getvalue()))  # type: ignore[assignment]
    process.start()
    try:
        yield queue.get(timeout=30)
    finally:
        process.terminate()
        process.join()


@contextlib.contextmanager
def dead_host(kind: str, port: int) -> Iterator[str]:
    """The address of a host that fails in one way."""
    with contextlib.ExitStack() as stack:
        if kind == "busy":  # the good host by another name
            yield f"http://localhost:{port}"
            return
        backlog = {"refused": 0, "unreachable": 0, "silent": 4096}[kind]
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        address = server.getsockname()
        if kind != "refused":
            server.listen(backlog)
        if kind == "unreachable":  # nobody accepts: the queue is full, further SYNs are dropped
            for _ in range(4):
                client = stack.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"


def run(
    folder: Path, bases: list[str], urls: int, respect_robots: bool
) -> tuple[float, dict[str, int]]:
    """Seconds of the download stage, and rows by status."""
    folder.mkdir()
    table, recipe, output = folder / "urls.csv", folder / "recipe.yaml", folder / "w"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["url", "prompt"])
        for number in range(urls):
            writer.writerows([f"{base}/{number}.jpg", f"prompt {number}"] for base in bases)
    recipe.write_text(RECIPE.format(table=table, respect_robots=str(respect_robots).lower()))
    surd: list[str | Path] = [sys.executable, "-m", "surd", "build", recipe, "-o", output]
    run_timed([*surd, "--until", "download", "-q"], folder / "log")
    stage = json.loads((output / "surd.json").read_text())["stages"]["download"]
    return float(stage["seconds"]), dict(stage["counts"])


def main() -> None:
    """Measure, print a table, write the results."""
    kinds = ["refused", "unreachable", "silent", "busy"]
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--urls", type=int, default=10_000, help="urls of each host")
    parser.add_argument("--only", nargs="+", choices=kinds, default=kinds)
    parser.add_argument(
        "--no-robots", action="store_true", help="do not ask for robots.txt, which tells early"
    )
    options = parser.parse_args()
    cells: list[list[str]] = []
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="surd-hosts-") as scratch, good_host() as port:
        good = f"http://127.0.0.1:{port}"
        alone_s = 0.0
        for kind in ["none", *options.only]:
            with contextlib.ExitStack() as stack:
                dead = [] if kind == "none" else [stack.enter_context(dead_host(kind, port))]
                seconds, counts = run(
                    Path(scratch) / kind, [good, *dead], options.urls, not options.no_robots
                )
            if counts.get("ok") != options.urls:
                raise BenchmarkError(f"{kind}: {counts} came of {options.urls} good urls")
            alone_s = seconds if kind == "none" else alone_s
            results[kind] = {"seconds": seconds, "counts": counts}
            asked = ", ".join(f"{n:,} {status}" for status, n in counts.items() if status != "ok")
            cells.append([kind, f"{seconds:.1f}", f"{seconds - alone_s:.1f}", asked])
            say(f"{kind}: {seconds:.1f} s, {counts}")
    facts = hardware(["surd", "aiohttp"])
    print(hardware_line(facts))
    print(format_table(["beside the good host", "seconds", "more", "its urls"], cells))
    if options.only == kinds and not options.no_robots:
        write_results("dead_hosts", {"hardware": facts, "urls": options.urls, "results": results})


if __name__ == "__main__":
    try:
        main()
    except BenchmarkError as error:
        sys.exit(f"benchmark: {error}")
