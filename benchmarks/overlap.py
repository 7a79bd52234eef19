"""What a build takes by the wall, beside its slowest stage and the sum of its stages.

    python benchmarks/overlap.py [--rows 6000] [--slower 1] [--only network device]

A server on loopback takes its time for each picture, and so do stand-ins for the captioner and for
CLIP, which sleep. First every stage runs alone, by its own command, then all are built at
once. Captioner and CLIP share one device, so their sum is what that is busy for.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import csv
import hashlib
import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from io import BytesIO
from multiprocessing import Process, Queue, get_context
from pathlib import Path
from typing import Any

import numpy as np
from _common import format_table, hardware, hardware_line, run_timed, say, write_results
from aiohttp import web
from PIL import Image

PER_HOST, PARTS = 16, 48
STAGES = ("download", "prompts", "caption", "score", "dedup", "filter")
SETTINGS = {
    "network": {"download": 10.0, "caption": 6.0, "score": 2.5},
    "device": {"download": 6.0, "caption": 10.0, "score": 0.5},
}
"""What is slowest -> milliseconds a picture, by stage."""
RECIPE = {
    "name": "overlap",
    "download": {"allow_private_addresses": True, "per_host": PER_HOST},
    "caption": {"model": "demo:captioner"},
    "score": {"clip": "demo:clip", "nsfw": "none"},
    "filter": {"clip_threshold": -1, "complex_threshold": None, "min_side": None},
}
PARTS_OF = ("images", "prompts", "captions", "clip", "duplicates", "verdicts")


# a site that takes its time --------------------------------------------------------------------


def _serve(queue: Queue[int], delay_s: float) -> None:
    """A picture of its own for each number."""

    async def answer(request: web.Request) -> web.Response:
        if request.path == "/robots.txt":
            return web.Response(status=404)
        await asyncio.sleep(delay_s)
        number = int(request.match_info["number"])
        file = BytesIO()
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
        Image.fromarray(pixels).resize((64, 64)).save(file, "JPEG")
        return web.Response(body=file.getvalue(), content_type="image/jpeg")

    app = web.Application()
    app.router.add_get("/robots.txt", answer)
    app.router.add_get("/{number}.jpg", answer)
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as server:
        queue.put(server.getsockname()[1])
        web.run_app(app, sock=server, print=lambda *_: None, access_log=None)


@contextlib.contextmanager
def slow_site(delay_s: float) -> Iterator[str]:
    """The address of a site that answers after so long."""
    context = get_context("spawn")
    queue: Queue[int] = context.Queue()
    process: Process = context.Process(target=_serve, args=(queue, delay_s))  # type: ignore[assignment]
    process.start()
    try:
        yield f"http://127.0.0.1:{queue.get(timeout=30)}"
    finally:
        process.terminate()
        process.join()


# models that take their time ---------------------------------------------------------------------


def surd_with_slow_models(arguments: Sequence[str], caption_ms: float, score_ms: float) -> None:
    """The command line, with stand-ins for the models; ends the process."""
    import torch

    from surd.cli import app
    from surd.models import captioner, clip
    from surd.models.captions import Captioner, Proposal

    def vector(content: bytes) -> torch.Tensor:
        digest = hashlib.blake2b(content, digest_size=8).digest()
        return torch.nn.functional.normalize(torch.tensor(list(digest)).float() + 1, dim=0)

    def name_of(image: Image.Image) -> bytes:
        return hashlib.blake2b(image.resize((8, 8)).tobytes(), digest_size=6).digest()

    def propose(pictures: Sequence[bytes], *_: object) -> list[list[Proposal]]:
        time.sleep(len(pictures) * caption_ms / 1000)
        return [[Proposal(f"a picture of {one.hex()}", "beam")] for one in pictures]

    class Clip:
        side_px = 8

        def preprocess(self, image: Image.Image) -> torch.Tensor:
            return torch.tensor(list(name_of(image))).float()

        def embed_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
            time.sleep(len(pixels) * score_ms / 1000)
            return torch.stack([vector(bytes(row.byte().tolist())) for row in pixels])

        def embed_texts(self, texts: Sequence[str]) -> torch.Tensor:
            return torch.stack([vector(text.encode()) for text in texts])

        def split(self, text: str) -> list[str]:
            return [text]

        def count_tokens(self, text: str) -> int:
            return len(text)

    stand_in = Captioner(name_of, propose, 8)
    setattr(captioner, "load_captioner", lambda *_, **__: stand_in)  # noqa: B010
    setattr(clip, "load_clip", lambda *_, **__: Clip())  # noqa: B010
    sys.argv = ["surd", *arguments]
    app.main()


# measuring ---------------------------------------------------------------------------------------


def write_table(path: Path, base: str, rows: int) -> None:
    """Urls and prompts."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["url", "prompt"])
        for number in range(rows):
            writer.writerow([f"{base}/{number}.jpg", f"a ({number} stars:1.2) over a hill, sharp"])


def surd(folder: Path, setting: dict[str, float], *arguments: object) -> float:
    """Seconds by the wall of a command, its start apart."""
    slow = ("--models", setting["caption"], setting["score"])
    command = [sys.executable, __file__, *slow, "--surd", *arguments]
    return run_timed([str(one) for one in command], folder / "log").wall_s


def seconds_of(workspace: Path, stage: str) -> float:
    """A stage's own count."""
    return float(json.loads((workspace / "surd.json").read_text())["stages"][stage]["seconds"])


def digests(workspace: Path) -> str:
    """Of all parts that the stages wrote."""
    found = hashlib.sha256()
    for group in PARTS_OF:
        for path in sorted((workspace / group).glob("part-*.parquet")):
            found.update(path.read_bytes())
    return found.hexdigest()[:16]


def measure(folder: Path, setting: dict[str, float], rows: int) -> dict[str, Any]:
    """Every stage alone, then all at once."""
    folder.mkdir()
    alone, together = folder / "alone", folder / "together"
    with slow_site(setting["download"] * PER_HOST / 1000) as base:
        write_table(folder / "urls.csv", base, rows)
        source = {"kind": "table", "path": str(folder / "urls.csv")}
        own = {"sources": [source], "part_size": max(1, rows // PARTS)}
        (folder / "recipe.yaml").write_text(json.dumps(RECIPE | own))
        for workspace in (alone, together):
            surd(folder, setting, *("build", folder / "recipe.yaml"), *_to(workspace), "collect")
        for stage in STAGES:
            surd(folder, setting, stage, alone, "-q")
            say(f"{stage} alone: {seconds_of(alone, stage):.1f} s")
        start_s = surd(folder, setting, "build", *_to(together), "collect")
        wall_s = surd(folder, setting, "build", *_to(together), "filter") - start_s
    stages = {stage: seconds_of(alone, stage) for stage in STAGES}
    return {
        "alone_s": stages,
        "sum_s": sum(stages.values()),
        "slowest_s": max(stages.values()),
        "device_s": stages["caption"] + stages["score"],
        "together_s": wall_s,
        "same": digests(alone) == digests(together),
    }


def _to(workspace: Path) -> tuple[object, ...]:
    return ("-o", workspace, "-q", "--until")


def main() -> None:
    """Measure, print the table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=6_000)
    parser.add_argument("--slower", type=float, default=1, help="times; for a busy machine")
    parser.add_argument("--only", nargs="*", choices=SETTINGS, default=list(SETTINGS))
    parser.add_argument("--models", type=float, nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--surd", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.surd:
        surd_with_slow_models(asked.surd, *asked.models)
        return
    facts = hardware(["pyarrow", "aiohttp"]) | {"load": os.getloadavg()[0]}
    found = {}
    with tempfile.TemporaryDirectory(prefix="surd-overlap-") as scratch:
        for name in asked.only:
            setting = {stage: ms * asked.slower for stage, ms in SETTINGS[name].items()}
            found[name] = measure(Path(scratch) / name, setting, asked.rows)
    print(hardware_line(facts))
    header = ["slowest", "sum s", "slowest stage s", "caption + score s", "at once s", "ratio"]
    table = []
    for name, one in found.items():
        seconds = [one[key] for key in ("sum_s", "slowest_s", "device_s", "together_s")]
        ratio = one["together_s"] / one["slowest_s"]
        table.append([name, *(f"{s:.1f}" for s in seconds), f"{ratio:.2f}"])
        if not one["same"]:
            say(f"{name}: the parts DIFFER")
    print(format_table(header, table))
    print("ratio: at once over the slowest stage; the start of the process is left out")
    asked_for = {"rows": asked.rows, "slower": asked.slower}
    write_results("overlap", {"hardware": facts, **asked_for, "settings": found})


if __name__ == "__main__":
    main()
