"""Downloading images: surd against img2dataset, on this machine, from nginx on loopback.

    python benchmarks/download.py [--only resize|original|memory]

Needs nginx; makes photographs and a virtual environment with img2dataset once, in a work folder.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import simplejpeg
from _common import (
    BenchmarkError,
    find_nginx,
    format_table,
    hardware,
    hardware_line,
    memory_measure,
    nginx,
    run_timed,
    run_watched,
    say,
    wait_idle,
    write_results,
)
from _download_contenders import (
    CONNECTIONS,
    PEER,
    SHORTER_SIDE_PX,
    WORKERS,
    Contender,
    Measured,
    contenders,
    peer_program,
    read_surd,
    surd_contender,
)
from _download_limits import measure_limits
from _download_photos import PHOTOS, THUMBS, Corpus, make_corpus, write_table

MEMORY_IMAGES = (10_000, 40_000)
"""Buffers and pools are full after the first 10,000."""
THUMBNAILS = 2_000
"""Different ones, given away again and again."""


# the comparison ---------------------------------------------------------------------------------


def compare(
    who: Sequence[Contender], corpus: Corpus, rounds: int, patience_s: float, workdir: Path
) -> dict[str, Measured]:
    """All contenders by turns, ``rounds`` times, then once more to watch their memory."""
    measured = {contender.name: Measured() for contender in who}
    output, log = workdir / "output", workdir / "log"
    for number in range(1, rounds + 1):
        for contender in who:
            _clear(output)
            wait_idle(patience_s)
            usage = run_timed(contender.command(output), log, contender.env)
            check(contender, output, corpus)
            own_s = contender.own_s(output)
            measured[contender.name].add(usage, own_s)
            say(
                f"round {number}: {contender.name}: {len(corpus) / usage.wall_s:.0f} images/s, "
                f"{len(corpus) / own_s:.0f} by its own count"
            )
    for contender in who:
        _clear(output)
        peak_mb = run_watched(contender.command(output), log, contender.env)
        measured[contender.name].peak_mb = round(peak_mb, 1)
        say(f"memory: {contender.name}: {peak_mb:.0f} MB")
    _clear(output)
    return measured


def _clear(folder: Path) -> None:
    """No such folder any more, and nothing of earlier runs left for the disk to write."""
    shutil.rmtree(folder, ignore_errors=True)
    os.sync()


def check(contender: Contender, output: Path, corpus: Corpus) -> None:
    """Every image is there once, and is what was asked for. Raises BenchmarkError."""
    numbers = []
    for number, image in contender.read(output):
        numbers.append(number)
        if contender.case == "original":
            right = hashlib.sha256(image).hexdigest() == corpus.sha256[number]
        else:
            height, width, *_ = simplejpeg.decode_jpeg_header(image)
            right = _resized_right(width, height, corpus.widths[number], corpus.heights[number])
        if not right:
            raise BenchmarkError(f"{contender.name}: image {number} is not what was asked for")
    if sorted(numbers) != list(range(len(corpus))):
        raise BenchmarkError(
            f"{contender.name}: {len(numbers)} images came of {len(corpus)}; what it said is in "
            f"{output.with_name('log')}"
        )


def _resized_right(width: int, height: int, before_width: int, before_height: int) -> bool:
    """Shorter side exact; the longer may be rounded either way."""
    longer = max(before_width, before_height) * SHORTER_SIDE_PX / min(before_width, before_height)
    wide_before, wide = before_width >= before_height, width >= height
    same_shape = wide == wide_before
    return (
        same_shape
        and min(width, height) == SHORTER_SIDE_PX
        and abs(longer - max(width, height)) < 1
    )


# memory -----------------------------------------------------------------------------------------


def measure_growth(base_url: str, corpus: Corpus, workdir: Path) -> dict[int, float]:
    """Peak memory of surd in MB, by the number of small images it downloads."""
    peaks = {}
    for rows in MEMORY_IMAGES:
        table = write_table(workdir / f"memory-{rows}.parquet", base_url, corpus, rows)
        contender = surd_contender(f"memory {rows}", "original", table, {})
        output = workdir / "output"
        _clear(output)
        peaks[rows] = round(run_watched(contender.command(output), workdir / "log"), 1)
        found = sum(1 for _ in read_surd(output))
        if found != rows:
            raise BenchmarkError(f"{contender.name}: {found} images came of {rows}")
        say(f"memory: {rows:,} images: {peaks[rows]:.0f} MB")
    _clear(workdir / "output")
    return peaks


# the report -------------------------------------------------------------------------------------


def comparison_report(
    who: Sequence[Contender], measured: dict[str, Measured], images: int
) -> tuple[str, dict[str, Any]]:
    """A table, and the same numbers as data.

    Ratios are of medians, to img2dataset with its usual interpolation.
    """
    peers: dict[str, Measured] = {}
    for contender in who:
        if contender.tool == "img2dataset":
            peers.setdefault(contender.case, measured[contender.name])
    rows: list[list[str]] = []
    data: dict[str, Any] = {}
    for contender in who:
        mine, peer = measured[contender.name], peers[contender.case]
        wall, own = (statistics.median(times) for times in (mine.wall_s, mine.own_s))
        ratio = {
            "wall": round(statistics.median(peer.wall_s) / wall, 2),
            "own_count": round(statistics.median(peer.own_s) / own, 2),
            "peak_memory": round(mine.peak_mb / peer.peak_mb, 2),
        }
        data[contender.name] = {
            **asdict(mine),
            "images_per_s_wall": round(images / wall, 1),
            "images_per_s_wall_best": round(images / min(mine.wall_s), 1),
            "images_per_s_own_count": round(images / own, 1),
            "against_img2dataset": ratio,
        }
        rows.append(
            [
                contender.name,
                f"{wall:.1f}",
                f"{images / wall:.0f}",
                f"{images / min(mine.wall_s):.0f}",
                f"{images / own:.0f}",
                f"{statistics.median(mine.cpu_s):.1f}",
                f"{statistics.median(mine.other_cpu_s):.1f}",
                f"{mine.peak_mb:.0f}",
                f"{ratio['wall']:.2f}",
                f"{ratio['own_count']:.2f}",
                f"{ratio['peak_memory']:.2f}",
            ]
        )
    header = ["", "wall s", "img/s", "best", "own img/s", "cpu s", "other", "MB"]
    return format_table([*header, "x wall", "x own", "x MB"], rows), data


def limits_report(
    data: dict[str, Any], limits: dict[str, float]
) -> tuple[str, dict[str, dict[str, float]]]:
    """Throughput of surd as a share of the bare work on the same cores."""
    pairs = {
        "surd resize": ["OpenCV decode, resize, encode", "surd's functions, resize"],
        "surd original": ["decode at 1/8 scale", "surd's functions, original"],
    }
    rows: list[list[str]] = []
    shares: dict[str, dict[str, float]] = {}
    for name, bases in pairs.items():
        for base in bases if name in data else []:
            wall = data[name]["images_per_s_wall"] / limits[base]
            own = data[name]["images_per_s_own_count"] / limits[base]
            shares.setdefault(name, {})[base] = round(own, 3)
            rows.append([f"{name} / {base}", f"{limits[base]:.0f}", f"{wall:.0%}", f"{own:.0%}"])
    return format_table(["share of the limit", "limit img/s", "wall", "own count"], rows), shares


def run(options: argparse.Namespace, workdir: Path) -> dict[str, Any]:
    """All that was asked for; prints the tables and returns what goes into the results file."""
    facts = hardware(["surd", "aiohttp", "pyarrow", "simplejpeg", "opencv-python-headless"])
    results: dict[str, Any] = {"hardware": facts, "peer": PEER, "rounds": options.rounds}
    results |= {"workers": WORKERS, "connections": CONNECTIONS, "memory": memory_measure()}
    tables = [hardware_line(facts)]
    with nginx(workdir, workdir / "nginx") as base_url:
        if options.only != "memory":
            corpus = make_corpus(PHOTOS, options.images, workdir)
            table = write_table(workdir / "photos.parquet", base_url, corpus, len(corpus))
            peer = peer_program(workdir, options.peer_python)
            who = contenders(table, peer, options.only)
            measured = compare(who, corpus, options.rounds, options.wait_idle, workdir)
            text, results["comparison"] = comparison_report(who, measured, len(corpus))
            results["images"] = len(corpus)
            tables.append(text)
            wait_idle(options.wait_idle)
            results["limits"] = measure_limits(corpus, options.rounds)
            text, results["share_of_limit"] = limits_report(
                results["comparison"], results["limits"]
            )
            tables.append(text)
        if options.only in (None, "memory"):
            thumbs = make_corpus(THUMBS, THUMBNAILS, workdir)
            peaks = measure_growth(base_url, thumbs, workdir)
            few, many = (peaks[rows] for rows in MEMORY_IMAGES)
            results["memory_growth"] = {"peak_mb": peaks, "ratio": round(many / few, 3)}
            tables.append(f"peak memory of surd: {peaks} MB, ratio {many / few:.3f}")
    print("\n\n".join(tables))
    return results


def main() -> None:
    """Parse the command line, measure, write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--images", type=int, default=2000, help="photographs to download")
    parser.add_argument("--rounds", type=int, default=3, help="times everything is measured")
    parser.add_argument(
        "--only", choices=["resize", "original", "memory"], help="one part; nothing is written"
    )
    parser.add_argument(
        "--wait-idle",
        type=float,
        default=0,
        metavar="SECONDS",
        help="wait so long at most, before each measurement, until nothing else runs here",
    )
    parser.add_argument("--peer-python", help="a Python that has img2dataset; else one is made")
    parser.add_argument(
        "--workdir",
        type=Path,
        default=Path(tempfile.gettempdir()) / "surd-benchmark",
        help="holds pictures and the peer's environment; kept for the next run",
    )
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that nginx and the tools end too
    workdir = options.workdir.absolute()
    try:
        find_nginx()
        workdir.mkdir(parents=True, exist_ok=True)
        results = run(options, workdir)
    except (BenchmarkError, OSError, subprocess.CalledProcessError) as error:
        sys.exit(f"benchmark: {error}")
    if options.only is None:
        print(f"\nwritten: {write_results('download', results)}")


if __name__ == "__main__":
    main()
