"""Captions from a server: throughput against what the server can do, and memory, on this machine.

    python benchmarks/caption_server.py [--rows 2000] [--memory-rows 50000]

The server is a stand-in in a process of its own, with a stated time for a caption and a stated
width; its answers have the shape of vLLM's.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
from _common import format_table, hardware, hardware_line, say, write_results
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))  # the stand-in server

from support_chat import ChatServer

from surd.stages.base import Batch
from surd.stages.caption import STAGE, CaptionParams, open_

SIDE_PX = 512
PICTURES = 64
"""Different ones; ids differ in every row."""


@contextmanager
def server(service_s: float, width: int) -> Iterator[str]:
    """The name of its model."""
    ours, theirs = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(theirs, service_s, width), daemon=True
    )
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()


def _serve(pipe: Any, service_s: float, width: int) -> None:
    class Forgetful(list[Any]):
        def append(self, _: Any) -> None:
            """Keep nothing."""

    with ChatServer(service_s=service_s, width=width, say=lambda body: "A picture.") as made:
        made.bodies, made.answered = Forgetful(), Forgetful()
        pipe.send(made.name)
        time.sleep(1e6)


def pictures() -> list[bytes]:
    """JPEGs of soft noise, as large as photographs of that side."""
    found = []
    for seed in range(PICTURES):
        pixels = np.random.default_rng(seed).integers(0, 255, (32, 32, 3), dtype=np.uint8)
        image = Image.fromarray(pixels).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=90)
        found.append(buffer.getvalue())
    return found


def batches(rows: int, images: list[bytes]) -> Iterator[Batch]:
    """As the engine reads them from parts."""
    for first in range(0, rows, STAGE.batch_rows):
        numbers = range(first, min(first + STAGE.batch_rows, rows))
        yield Batch(
            pa.table(
                {
                    "id": [f"{number:032x}" for number in numbers],
                    "bytes": pa.array([images[n % PICTURES] for n in numbers], pa.large_binary()),
                    "simple_prompt": pa.nulls(len(numbers), pa.string()),
                }
            )
        )


def throughput(rows: int, service_s: float, width: int, images: list[bytes]) -> dict[str, Any]:
    """Seconds from the first row to the last, and the share of what the server can do."""
    with server(service_s, width) as name:
        params = CaptionParams(model=name, candidates=1, concurrency=2 * width, image_side=SIDE_PX)
        for _ in open_(params)(batches(1, images)):
            pass  # what is imported once is no part of it
        stream = open_(params)(batches(rows, images))
        started, busy = time.perf_counter(), time.process_time()
        statuses = [status for table in stream for status in table["status"].to_pylist()]
        wall_s, cpu_s = time.perf_counter() - started, time.process_time() - busy
    assert statuses == ["ok"] * rows
    ideal_s = -(-rows // width) * service_s
    return {
        "wall_s": round(wall_s, 2),
        "cpu_ms_per_row": round(1000 * cpu_s / rows, 2),
        "rows_per_s": round(rows / wall_s, 1),
        "share_of_ideal": round(ideal_s / wall_s, 3),
    }


def memory(rows: int, images: list[bytes]) -> dict[str, Any]:
    """Resident MB after each tenth of the rows, of a server that answers at once."""
    process, found = psutil.Process(), list[float]()
    with server(0.0, 1000) as name:
        params = CaptionParams(model=name, candidates=1, image_side=SIDE_PX)
        done = 0
        for table in open_(params)(batches(rows, images)):
            done += table.num_rows
            while done >= (len(found) + 1) * rows / 10:
                found.append(round(process.memory_info().rss / 1e6, 1))
                say(f"{done:,} rows: {found[-1]} MB")
    return {"rows": rows, "mb": found}


def main() -> None:
    """Parse the command line, measure, write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--memory-rows", type=int, default=50_000, help="0: leave it out")
    parser.add_argument("--dry", action="store_true", help="write no results")
    options = parser.parse_args()
    facts, images = hardware(["surd", "aiohttp"]), pictures()
    cases, rows = {}, []
    for service_s, width in ((1.0, 16), (2.0, 64)):
        found = throughput(options.rows, service_s, width, images)
        case = f"{width} at once, {service_s} s each"
        cases[case] = found
        rows.append([case, *(str(value) for value in found.values())])
    print(hardware_line(facts))
    print(format_table(["server", "wall s", "cpu ms/row", "rows/s", "of the ideal"], rows))
    results = {"hardware": facts, "rows": options.rows, "cases": cases}
    if options.memory_rows:
        results["memory"] = memory(options.memory_rows, images)
    if not options.dry:
        print(f"\nwritten: {write_results('caption_server', results)}")


if __name__ == "__main__":
    main()
