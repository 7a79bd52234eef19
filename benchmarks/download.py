"""Downloading images: surd against img2dataset, on this machine, from nginx on loopback.

    python benchmarks/download.py [--only resize|original|memory]

Needs nginx; makes photographs and a virtual environment with img2dataset once, in a work folder.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
import yaml
from _common import (
    BenchmarkError,
    Usage,
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

from surd.stages.download import DownloadParams, describe

WORKERS = 2
"""Processes of img2dataset, threads of surd that decode."""
CONNECTIONS = 32
"""Downloads at once, in both."""
SHORTER_SIDE_PX = 512
QUALITY = 95
PEER = "img2dataset==1.47.0"
PEER_NEEDS = ["standard-imghdr; python_version >= '3.13'"]
"""img2dataset imports imghdr, which Python 3.13 no longer has."""
PEER_ENV = {"NO_ALBUMENTATIONS_UPDATE": "1"}
"""Its library albumentations asks PyPI for a newer version at every import; that takes time."""
PEER_SHARD = 500
LIMIT_IMAGES = 400
MEMORY_IMAGES = (2_000, 20_000)


# the photographs --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of picture to make."""

    name: str
    width: int
    height: int
    vary: float
    """Sides are up to this share shorter or longer."""


PHOTOS = Kind("photos", 1024, 768, 0.06)
THUMBS = Kind("thumbs", 256, 256, 0.0)


@dataclass(frozen=True)
class Corpus:
    """Pictures in a folder that nginx serves."""

    folder: Path
    names: list[str]
    widths: list[int]
    heights: list[int]
    sha256: list[str]

    def __len__(self) -> int:
        return len(self.names)


def photo(kind: Kind, seed: int) -> tuple[int, int, bytes]:
    """Width, height and JPEG of noise at every scale, fading towards the fine ones as in photos."""
    rng = np.random.default_rng([seed, kind.width])
    stretch = 1 + rng.uniform(-kind.vary, kind.vary, 2)
    width, height = round(kind.width * stretch[0]), round(kind.height * stretch[1])
    fade = rng.uniform(0.675, 0.735)
    amplitude = 70.0
    pixels: np.ndarray = np.zeros((3, 4, 3), np.float32)
    while True:
        rows, columns = pixels.shape[:2]
        pixels += amplitude * rng.standard_normal((rows, columns, 1), dtype=np.float32)
        if columns <= 256:  # colours change more slowly than brightness
            pixels += 0.4 * amplitude * rng.standard_normal(pixels.shape, dtype=np.float32)
        if (columns, rows) == (width, height):
            break
        pixels = cv2.resize(pixels, (min(width, 2 * columns), min(height, 2 * rows)))
        amplitude *= fade
    image = np.clip(pixels + rng.uniform(100, 150), 0, 255).astype(np.uint8)
    return width, height, cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def make_corpus(kind: Kind, count: int, root: Path) -> Corpus:
    """Make ``count`` different pictures, once; all later runs find them."""
    folder = root / f"{kind.name}-{count}"
    index = folder / "index.json"
    if not index.exists():
        say(f"making {count:,} {kind.name} in {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        numbers = np.array_split(np.arange(count), os.cpu_count() or 1)
        with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
            made = list(pool.map(partial(_save_photos, kind, folder), numbers))
        index.write_text(json.dumps([row for rows in made for row in rows]))
    names, widths, heights, digests, sizes = zip(*json.loads(index.read_text()), strict=True)
    say(f"{count:,} {kind.name}, {statistics.mean(sizes) / 1000:.0f} kB each on average")
    return Corpus(folder, list(names), list(widths), list(heights), list(digests))


def _save_photos(kind: Kind, folder: Path, numbers: Sequence[int]) -> list[list[Any]]:
    cv2.setNumThreads(1)
    rows: list[list[Any]] = []
    for number in numbers:
        width, height, data = photo(kind, int(number))
        name = f"{number:06}.jpg"
        (folder / name).write_bytes(data)
        rows.append([name, width, height, hashlib.sha256(data).hexdigest(), len(data)])
    return rows


def write_table(path: Path, base_url: str, corpus: Corpus, rows: int) -> Path:
    """A Parquet table of different urls with prompts; pictures repeat when it is longer."""
    urls = [
        f"{base_url}/{corpus.folder.name}/{corpus.names[i % len(corpus)]}?n={i}"
        for i in range(rows)
    ]
    prompts = [f"a photograph of noise, number {i}, soft light" for i in range(rows)]
    pq.write_table(pa.table({"url": urls, "prompt": prompts}), path)
    return path


# the contenders ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Contender:
    """One tool with one set of options."""

    name: str
    case: str
    """``resize`` or ``original``."""
    tool: str
    command: Callable[[Path], list[str | Path]]
    """The command line that fills a folder."""
    read: Callable[[Path], Iterator[tuple[int, bytes]]]
    """From a filled folder: row of the input table, and image, of each that is there."""
    own_s: Callable[[Path], float]
    """From a filled folder: seconds the tool itself says the downloading took."""
    env: dict[str, str] = field(default_factory=dict)


@dataclass
class Measured:
    """The rounds of one contender."""

    wall_s: list[float] = field(default_factory=list)
    own_s: list[float] = field(default_factory=list)
    cpu_s: list[float] = field(default_factory=list)
    other_cpu_s: list[float] = field(default_factory=list)
    peak_mb: float = 0.0

    def add(self, usage: Usage, own_s: float) -> None:
        """Note one round."""
        self.wall_s.append(round(usage.wall_s, 3))
        self.own_s.append(round(own_s, 3))
        self.cpu_s.append(round(usage.cpu_s, 3))
        self.other_cpu_s.append(round(usage.other_cpu_s, 3))


def surd_contender(name: str, case: str, table: Path, download: dict[str, Any]) -> Contender:
    """Surd with a recipe for the table, and more settings of the download stage."""
    settings = {
        "allow_private_addresses": True,
        "concurrency": CONNECTIONS,
        "per_host": CONNECTIONS,
        "threads": WORKERS,
        **download,
    }
    recipe = table.with_name(f"{name.replace(' ', '-').replace(',', '')}.yaml")
    source = {"kind": "table", "path": str(table)}
    recipe.write_text(yaml.safe_dump({"name": case, "sources": [source], "download": settings}))

    def command(folder: Path) -> list[str | Path]:
        build = ["build", recipe, "-o", folder, "--until", "download", "-q", "--json"]
        return [sys.executable, "-m", "surd", *build]

    return Contender(name, case, "surd", command, read_surd, surd_seconds)


def read_surd(folder: Path) -> Iterator[tuple[int, bytes]]:
    """The images of a workspace."""
    samples = pq.read_table(folder / "samples", columns=["id", "url"]).to_pylist()
    numbers = {row["id"]: _number(row["url"]) for row in samples}
    for path in sorted((folder / "images").glob("*.parquet")):
        for row in _rows(path, ["id", "status", "bytes"]):
            if row["status"] == "ok":
                yield numbers[row["id"]], row["bytes"]


def surd_seconds(folder: Path) -> float:
    """What the manifest says of the download stage."""
    manifest = json.loads((folder / "surd.json").read_text())
    return float(manifest["stages"]["download"]["seconds"])


def peer_contender(name: str, case: str, table: Path, peer: Path, options: str) -> Contender:
    """img2dataset with its fastest settings that give the same result.

    EXIF extraction and the check for newer versions are off, since surd does neither.
    """
    common = (
        "--input_format parquet --url_col url --caption_col prompt --output_format parquet "
        f"--processes_count {WORKERS} --thread_count {CONNECTIONS // WORKERS} "
        f"--number_sample_per_shard {PEER_SHARD} --extract_exif False --enable_wandb False "
        "--retries 0"
    )

    def command(folder: Path) -> list[str | Path]:
        given = ["--url_list", table, "--output_folder", folder]
        return [peer, *given, *common.split(), *options.split()]

    return Contender(name, case, "img2dataset", command, read_peer, peer_seconds, PEER_ENV)


def read_peer(folder: Path) -> Iterator[tuple[int, bytes]]:
    """The images of img2dataset's shards."""
    for path in sorted(folder.glob("*.parquet")):
        for row in _rows(path, ["url", "status", "jpg"]):
            if row["status"] == "success":
                yield _number(row["url"]), row["jpg"]


def peer_seconds(folder: Path) -> float:
    """From the start of the first shard to the end of the last, as its own total counts."""
    stats = [json.loads(path.read_text()) for path in folder.glob("*_stats.json")]
    return float(max(s["end_time"] for s in stats) - min(s["start_time"] for s in stats))


def _rows(path: Path, columns: list[str]) -> Iterator[dict[str, Any]]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(100, columns=columns):
            yield from batch.to_pylist()


def _number(url: str) -> int:
    return int(urllib.parse.parse_qs(urllib.parse.urlsplit(url).query)["n"][0])


def contenders(table: Path, peer: Path, only: str | None) -> list[Contender]:
    """Everything to be compared, in the order of a round."""
    resize = {"mode": "shorter", "size": SHORTER_SIDE_PX, "quality": QUALITY}
    unchecked = {"decode_check": False, "perceptual_hash": False}
    peer_resize = (
        f"--resize_mode keep_ratio --image_size {SHORTER_SIDE_PX} --resize_only_if_bigger True "
        f"--encode_quality {QUALITY}"
    )
    everything = [
        peer_contender("img2dataset resize", "resize", table, peer, peer_resize),
        peer_contender(
            "img2dataset resize, bilinear",
            "resize",
            table,
            peer,
            f"{peer_resize} --downscale_interpolation linear",
        ),
        surd_contender("surd resize", "resize", table, {"resize": resize}),
        peer_contender(
            "img2dataset original", "original", table, peer, "--disable_all_reencoding True"
        ),
        surd_contender("surd original", "original", table, {}),
        surd_contender("surd original, unchecked", "original", table, unchecked),
    ]
    return [c for c in everything if only in (None, c.case)]


def peer_program(workdir: Path, python: str | None) -> Path:
    """The command ``img2dataset``, in an environment of its own that is made once."""
    if python is not None:
        program = Path(python).absolute().with_name("img2dataset")
        if not program.exists():
            raise BenchmarkError(
                f"{program}: not there; install it: {python} -m pip install {PEER}"
            )
        return program
    folder = workdir / PEER.replace("==", "-")
    ready = folder / "ready"
    if not ready.exists():
        say(f"installing {PEER} in {folder}")
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
        subprocess.run([*pip, PEER, *PEER_NEEDS], check=True)
        ready.touch()
    return folder / "bin" / "img2dataset"


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


# the physical limit -----------------------------------------------------------------------------


def opencv_resize(data: bytes) -> None:
    """What img2dataset does to one file: decode, resize by area, encode."""
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    height, width = pixels.shape[:2]
    scale = SHORTER_SIDE_PX / min(height, width)
    size = (round(width * scale), round(height * scale))
    pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
    cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])


def surd_resize(data: bytes) -> None:
    """What surd does to one file in the resize case."""
    resize = {"mode": "shorter", "size": SHORTER_SIDE_PX, "quality": QUALITY}
    describe(data, DownloadParams.model_validate({"resize": resize}))


def surd_original(data: bytes) -> None:
    """What surd does to one file in the original case."""
    describe(data, DownloadParams())


def eighth_decode(data: bytes) -> None:
    """Decode to 1/8 of the size: every byte is read, few pixels are made."""
    simplejpeg.decode_jpeg(data, "GRAY", min_height=1, min_width=1, min_factor=8)


LIMITS: dict[str, tuple[str, Callable[[bytes], None]]] = {
    "OpenCV decode, resize, encode": ("processes", opencv_resize),
    "surd's functions, resize": ("threads", surd_resize),
    "surd's functions, original": ("threads", surd_original),
    "decode at 1/8 scale": ("threads", eighth_decode),
}


def measure_limits(corpus: Corpus, rounds: int) -> dict[str, float]:
    """Images per second of the bare work on ``WORKERS`` cores, files in memory; the best round."""
    files = [corpus.folder / name for name in corpus.names[:LIMIT_IMAGES]]
    best = dict.fromkeys(LIMITS, 0.0)
    for _ in range(rounds):
        for name, (kind, work) in LIMITS.items():
            best[name] = max(best[name], _rate(kind, work, files))
    for name, rate in best.items():
        say(f"limit: {name}: {rate:.0f} images/s")
    return {name: round(rate, 1) for name, rate in best.items()}


def _rate(kind: str, work: Callable[[bytes], None], files: list[Path]) -> float:
    pools: dict[str, Callable[[], Executor]] = {
        "threads": lambda: ThreadPoolExecutor(WORKERS),
        "processes": lambda: ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn")),
    }
    with pools[kind]() as pool:
        shares = [files[i::WORKERS] for i in range(WORKERS)]
        list(pool.map(_work_through, [work] * WORKERS, [share[:5] for share in shares]))  # warm up
        return sum(pool.map(_work_through, [work] * WORKERS, shares))


def _work_through(work: Callable[[bytes], None], files: list[Path]) -> float:
    """Images per second of one worker."""
    cv2.setNumThreads(1)
    data = [path.read_bytes() for path in files]
    started = time.perf_counter()
    for image in data:
        work(image)
    return len(data) / (time.perf_counter() - started)


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
            thumbs = make_corpus(THUMBS, MEMORY_IMAGES[0], workdir)
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
