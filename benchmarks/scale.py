"""What a row costs from source to dataset, without models, as the rows become more.

    python benchmarks/scale.py [--rows 10000 100000 1000000] [--work DIR] [--ray-rows 100000]

Every stage is a command of its own, as a user would run it, on pictures of 64 x 64 pixels that lie
in Parquet files. Captions come with the pictures; CLIP's columns are made up and not timed. With
``--work`` figures stay there, and what was measured is not measured again: a run that was stopped
goes on. A million rows take about 10 GB of disk.

Growth is told by processor time, and from one size to the next, so that start-up does not count: a
row's cost between the sizes, and how many times that of the step before it is. On a virtual machine
the same work may take twice the time an hour later; so stages that go part by part are also
compared with themselves: the last third of a run's parts with the first.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from _common import (
    Cost,
    format_table,
    hardware,
    hardware_line,
    memory_measure,
    run_measured,
    say,
    wait_idle,
    write_part,
    write_results,
)

from surd.store.schema import GROUPS
from surd.store.workspace import Workspace

FILE_ROWS, PART_ROWS, SIDE_PX = 10_000, 10_000, 64
BY_PART = {"collect": "samples", "download": "images", "prompts": "prompts", "caption": "captions"}
"""Stages that write a part after the other, and the group of those."""
STAGES = ("collect", "download", "prompts", "caption", "dedup", "filter", "publish", "status")
SUBJECTS = ["cat", "dog", "castle", "robot", "portrait", "forest", "city", "ship", "dragon"]
STYLES = ["oil painting", "watercolor", "photo", "pixel art", "line art", "3d render"]
PROMPT = (
    "masterpiece, best quality, ({subject}:1.2), {style}, {n} stars in the sky, sharp focus, "
    "detailed background, soft light, 8k, <lora:style{lora}:0.6>, trending on a site"
)
RECIPE = {
    "name": "scale",
    "description": "Synthetic rows",
    "part_size": PART_ROWS,
    "caption": {"given": "only", "model": "none"},
    "dedup": {"min_cosine": None},
    "filter": {"min_side": 1, "max_nsfw": None},
}


# what is measured ---------------------------------------------------------------------------------


def make_source(folder: Path, rows: int) -> int:
    """Parquet files of pictures with both prompts; one in fifty pictures comes twice. Gives the
    bytes of all."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, first in enumerate(range(0, rows, FILE_ROWS)):
        path = folder / f"{number:05}.parquet"
        if path.exists():
            continue
        count = min(FILE_ROWS, rows - first)
        rng = np.random.default_rng(number)
        noise = rng.integers(0, 255, (count, 8, 8, 3), dtype=np.uint8)
        noise[49::50] = noise[48::50][: len(noise[49::50])]
        data = [_jpeg(pixels) for pixels in noise]
        subjects = rng.choice(SUBJECTS, count)
        prompts = [
            PROMPT.format(subject=s, style=style, n=n, lora=lora)
            for s, style, n, lora in zip(
                subjects,
                rng.choice(STYLES, count),
                rng.integers(0, 10**6, count),
                rng.integers(0, 500, count),
                strict=True,
            )
        ]
        image = pa.StructArray.from_arrays(
            [pa.array(data, pa.binary()), pa.nulls(count, pa.string())], ["bytes", "path"]
        )
        captions = [f"a {subject} under the stars" for subject in subjects]
        table = pa.table({"image": image, "prompt": prompts, "text": captions})
        temporary = path.with_suffix(".tmp")
        pq.write_table(table, temporary, row_group_size=500, compression="none")
        temporary.rename(path)
    return sum(path.stat().st_size for path in folder.glob("*.parquet"))


def _jpeg(pixels: np.ndarray) -> bytes:
    large = cv2.resize(pixels, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_CUBIC)
    data: bytes = simplejpeg.encode_jpeg(large, quality=85)
    return data


def make_scores(folder: Path) -> None:
    """What CLIP would have said, embeddings apart."""
    workspace = Workspace(folder)
    there = set(workspace.parts("clip"))
    for part in workspace.parts("captions"):
        if part in there:
            continue
        captions = workspace.read("captions", part, ["id", "candidates"])
        rng = np.random.default_rng(part)
        rows = captions.num_rows
        columns = {
            "id": captions["id"].to_pylist(),
            "status": ["ok"] * rows,
            "simple_prompt": [some[0]["text"] for some in captions["candidates"].to_pylist()],
            "cos_simple": rng.normal(0.29, 0.04, rows).astype(np.float32),
            "cos_complex": rng.normal(0.3, 0.04, rows).astype(np.float32),
        }
        write_part(workspace, "clip", part, columns)


def write_recipe(path: Path, source: Path) -> None:
    """JSON is YAML."""
    sources = [{"kind": "huggingface", "path": str(source)}]
    path.write_text(json.dumps(RECIPE | {"sources": sources}))


# measuring ----------------------------------------------------------------------------------------


def surd(*arguments: object) -> list[str]:
    """The command line of this very Python."""
    return [sys.executable, "-m", "surd", *map(str, arguments)]


def stage_command(stage: str, work: Path, folder: Path) -> list[str]:
    """One stage on the workspace; the first makes it."""
    if stage == "collect":
        return surd("build", work / "recipe.yaml", "-o", folder, "--until", "collect", "--json")
    return surd(stage, folder, "--json", *([] if stage == "status" else ["-q"]))


def measure_rows(work: Path, rows: int, known: dict[str, Any]) -> Iterator[None]:
    """Run every stage on so many rows; yields after each, with its figures in ``known``."""
    folder, log = work / "w", work / "log"
    if known.get("bytes_source") is None:
        say(f"{rows:,} rows: making the pictures")
        known["bytes_source"] = make_source(work / "source", rows)
        write_recipe(work / "recipe.yaml", work / "source")
        yield
    for stage in STAGES:
        if stage in known:
            continue
        if stage == "dedup":
            make_scores(folder)
        cost = run_measured(stage_command(stage, work, folder), log)
        known[stage] = figures(cost, log, rows, stage)
        if stage in BY_PART:
            known[stage]["last_third"] = last_third(folder / BY_PART[stage])
        say(f"{rows:,} rows: {stage} {known[stage]['seconds']:.1f} s, {cost.peak_mb:.0f} MB")
        yield
    known["bytes"] = {group: size(folder / group) for group in (*GROUPS, "dataset")}
    yield


def last_third(folder: Path) -> float | None:
    """How many times the first third's time the last third of the parts took; None of a few."""
    written = sorted(path.stat().st_mtime for path in folder.glob("part-*.parquet"))
    third = len(written) // 3
    if third < 3:
        return None
    return (written[-1] - written[-1 - third]) / (written[third] - written[0])


def figures(cost: Cost, log: Path, rows: int, stage: str) -> dict[str, Any]:
    """Seconds by the stage's own count, where it has one; all else as the system counts."""
    seconds = cost.wall_s
    if stage not in ("filter", "status"):  # whose answers hold other things
        seconds = json.loads(last_json(log))["stages"][-1]["seconds"]
    return {
        "seconds": seconds,
        "us_per_row": 1e6 * seconds / rows,
        "wall_s": cost.wall_s,
        "cpu_s": cost.cpu_s,
        "peak_mb": cost.peak_mb,
    }


def last_json(log: Path) -> str:
    """The JSON object at the end of a command's output."""
    text = log.read_text()
    return text[text.index("{") :]


def size(folder: Path) -> int:
    """Bytes of a folder's files."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def steps(rows: Sequence[int], cpu_s: Sequence[float]) -> list[float]:
    """Microseconds of processor time a row, from each size to the next."""
    return [1e6 * (cpu_s[i + 1] - cpu_s[i]) / (rows[i + 1] - rows[i]) for i in range(len(rows) - 1)]


# engines ------------------------------------------------------------------------------------------

ENGINES = (("local", 1), ("local", 2), ("ray", 1), ("ray", 2))


def measure_engines(work: Path, rows: int, known: dict[str, Any]) -> Iterator[None]:
    """The prompts stage, which keeps cores busy, on each engine with one worker and with two."""
    log = work / "log"
    if all(f"{engine} {workers}" in known for engine, workers in ENGINES):
        return
    make_source(work / "source", rows)
    write_recipe(work / "recipe.yaml", work / "source")
    small = ["--set", "part_size=1000", "--until", "download", "-q"]
    run_measured(surd("build", work / "recipe.yaml", "-o", work / "w", *small), log)
    for engine, workers in ENGINES:
        name = f"{engine} {workers}"
        if name in known:
            continue
        shutil.rmtree(work / "w" / "prompts", ignore_errors=True)
        options = ("--engine", engine, "--workers", workers, "--json", "-q")
        cost = run_measured(surd("prompts", work / "w", *options), log)
        workspace = Workspace(work / "w")
        infos = [workspace.part_info("prompts", part) for part in workspace.parts("prompts")]
        digests = [info.digest for info in infos if info]
        known[name] = figures(cost, log, rows, "prompts") | {
            "digests": hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]
        }
        say(f"{name}: {known[name]['seconds']:.1f} s, {cost.peak_mb:.0f} MB")
        yield


# report -------------------------------------------------------------------------------------------


def report(results: dict[str, Any], facts: dict[str, Any]) -> None:
    """Print the tables."""
    print(hardware_line(facts))
    sizes = sorted(int(rows) for rows in results["rows"])
    header = ["stage", *(f"s at {n:,}" for n in sizes)]
    header += [f"cpu us/row to {n:,}" for n in sizes[1:]] + ["growth"] * (len(sizes) > 2)
    header += ["last third", *(f"MB at {n:,}" for n in sizes)]
    cells = []
    for stage in STAGES:
        found = [results["rows"][str(n)].get(stage) for n in sizes]
        if None in found:
            continue
        costs = steps(sizes, [one["cpu_s"] for one in found])
        cells.append(
            [
                stage,
                *(f"{one['seconds']:.1f}" for one in found),
                *(f"{cost:.0f}" for cost in costs),
                *([f"{costs[-1] / costs[-2]:.2f}"] if len(sizes) > 2 else []),
                f"{found[-1]['last_third']:.2f}" if found[-1].get("last_third") else "",
                *(f"{one['peak_mb']:.0f}" for one in found),
            ]
        )
    print(format_table(header, cells))
    print(f"MB: peak of the process tree ({memory_measure()})")
    print("last third: of the largest size, over the first third, by the wall")
    for n in sizes:
        stored = results["rows"][str(n)].get("bytes")
        if stored:
            each = ", ".join(f"{group} {b / n:.0f}" for group, b in stored.items())
            print(f"bytes a row at {n:,}: {each}")
    if results["engines"]:
        rows = [
            [name, f"{one['seconds']:.1f}", f"{one['wall_s']:.1f}", f"{one['peak_mb']:.0f}"]
            for name, one in results["engines"].items()
        ]
        print(format_table(["prompts on", "s", "wall s", f"{memory_measure()} MB"], rows))
        same = len({one["digests"] for one in results["engines"].values()}) == 1
        print("seconds include the start of Ray; the rows are", "the same" if same else "DIFFERENT")


@contextmanager
def work_folder(given: Path | None) -> Iterator[Path]:
    """The one that stays, or one that does not."""
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory(prefix="surd-scale-") as scratch:
        yield Path(scratch)


def main() -> None:
    """Measure, print the tables, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--ray-rows", type=int, default=100_000, help="for the engines; 0: none")
    parser.add_argument("--work", type=Path, help="stays, and is gone on with")
    parser.add_argument("--wait-idle", type=float, default=0, help="seconds, before each size")
    parser.add_argument("--keep", action="store_true", help="keep workspaces that are measured")
    asked = parser.parse_args()
    facts = hardware(["pyarrow", "numpy"])
    with work_folder(asked.work) as work:
        path = work / "results.json"
        results: dict[str, Any] = {"rows": {}, "engines": {}}
        if path.exists():
            results = json.loads(path.read_text())

        def note() -> None:
            path.write_text(json.dumps(results, indent=2) + "\n")

        for rows in sorted(asked.rows):
            wait_idle(asked.wait_idle)
            known = results["rows"].setdefault(str(rows), {})
            if "bytes" not in known:
                (work / str(rows)).mkdir(exist_ok=True)
                for _ in measure_rows(work / str(rows), rows, known):
                    note()
            if not asked.keep:
                shutil.rmtree(work / str(rows), ignore_errors=True)
        if asked.ray_rows:
            (work / "engines").mkdir(exist_ok=True)
            results["engine_rows"] = asked.ray_rows
            for _ in measure_engines(work / "engines", asked.ray_rows, results["engines"]):
                note()
            if not asked.keep:
                shutil.rmtree(work / "engines", ignore_errors=True)
    report(results, facts)
    results["measured"] = time.strftime("%Y-%m-%d")
    write_results("scale", {"hardware": facts, **results})


if __name__ == "__main__":
    main()
