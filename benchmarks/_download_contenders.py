"""The tools that ``download.py`` lets run: their commands, and what they leave."""

from __future__ import annotations

import json
import sys
import urllib.parse
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from _common import BenchmarkError, Usage, peer_python

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
        build: list[str | Path] = [
            "build",
            recipe,
            "-o",
            folder,
            "--until",
            "download",
            "-q",
            "--json",
        ]
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
        given: list[str | Path] = ["--url_list", table, "--output_folder", folder]
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
    return peer_python(workdir, PEER, *PEER_NEEDS).with_name("img2dataset")
