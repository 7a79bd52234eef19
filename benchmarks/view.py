"""Looking at ten million samples: ``surd view``, its search, and ``surd report``.

    python benchmarks/view.py [--rows 10000000] [--embedded 10000000] [--skip-report]

Makes a workspace in parts of the real layout, in a temporary folder: 1.5 GB for ten million rows
without images' bytes, and 1.1 GB for each million that has embeddings. Where the system has no
room to keep these in memory, a search takes as long as reading them from the disk.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil
import pyarrow as pa
from _common import (
    format_table,
    hardware,
    hardware_line,
    run_measured,
    say,
    write_part,
    write_results,
)

from surd.store.schema import VERDICTS
from surd.store.workspace import Manifest, Workspace, part_name

PART_ROWS = 10_000
DIMENSIONS = 512
KINDS_OF_PART = 8
"""Parts repeat after so many."""
GROUPS = ("samples", "images", "prompts", "captions", "clip", "duplicates", "verdicts")
ROUNDS = 3
PROMPT = "masterpiece, best quality, a portrait of {} in the style of {}, 8k, sharp focus, {}"
PAGES = {
    "page": {},
    "sorted": {"sort": "cos_simple"},
    "page 100 of sorted": {"sort": "aesthetic", "order": "up", "page": "100"},
    "two words": {"words": "portrait 432{}"},
    "page 2 of these": {"words": "portrait 4321", "page": "2"},
    "dropped": {"show": "dropped", "reason": "max_aspect"},
}


def make_workspace(folder: Path, rows: int, embedded: int) -> None:
    """Groups with plausible columns; the first ``embedded`` rows have vectors of their images.

    The first parts are written, all others are copies of these, their ids among them: nothing here
    looks a sample up by its id.
    """
    workspace = Workspace(folder)
    sources = [{"kind": "folder", "path": "."}]
    workspace.write_manifest(Manifest(recipe={"name": "view", "sources": sources}))
    parts, kinds = rows // PART_ROWS, {}
    for part in range(parts):
        kind = part % KINDS_OF_PART, part * PART_ROWS < embedded
        if kind not in kinds:
            kinds[kind] = part
            columns = _columns(np.random.default_rng(kind[0]))
            if not kind[1]:
                columns.pop("image_embedding")
            for group in GROUPS:
                write_part(workspace, group, part, columns)
        else:
            for group in GROUPS:
                shutil.copyfile(
                    folder / part_name(group, kinds[kind]), folder / part_name(group, part)
                )


def _ids(rng: np.random.Generator) -> list[str]:
    digits = rng.bytes(16 * PART_ROWS).hex()
    return [digits[at : at + 32] for at in range(0, len(digits), 32)]


def _columns(rng: np.random.Generator) -> dict[str, Any]:
    """A part's columns."""
    words = rng.integers(0, 5000, (PART_ROWS, 3))
    width, height = rng.integers(256, 2048, (2, PART_ROWS))
    cos_simple = rng.normal(0.29, 0.04, PART_ROWS).astype(np.float32)
    found = {
        "clip_threshold": cos_simple < 0.26,
        "max_aspect": np.maximum(width, height) > 3 * np.minimum(width, height),
    }
    ids = pa.array(_ids(rng))
    prompts = pa.array([PROMPT.format(*some) for some in words])
    return {
        "id": ids,
        "cluster": ids,
        "source": pa.array(["folder"] * PART_ROWS),
        "path": pa.array([f"images/{n:05d}.png" for n in range(PART_ROWS)]),
        "status": pa.array(["ok"] * PART_ROWS),
        "author": pa.array([f"author {n}" for n in rng.integers(0, 20_000, PART_ROWS)]),
        "width": pa.array(width, pa.int32()),
        "height": pa.array(height, pa.int32()),
        "prompt": prompts,
        "complex_prompt": prompts,
        "language": pa.array(["en"] * PART_ROWS),
        "simple_prompt": pa.array([f"a portrait of {n}" for n in words[:, 0]]),
        "cos_simple": pa.array(cos_simple),
        "cos_complex": pa.array(rng.normal(0.3, 0.04, PART_ROWS).astype(np.float32)),
        "aesthetic": pa.array(rng.normal(5.5, 0.8, PART_ROWS).astype(np.float32)),
        "nsfw": pa.array(rng.beta(0.3, 5, PART_ROWS).astype(np.float32)),
        "cluster_size": pa.array(np.ones(PART_ROWS, np.int32)),
        "keep": pa.array(~np.logical_or.reduce(list(found.values()))),
        "reasons": _reasons(found),
        "image_embedding": _vectors(rng),
    }


def _reasons(found: Mapping[str, npt.NDArray[np.bool_]]) -> pa.Array:
    return pa.array(
        [
            [
                {"reason": name, "value": 0.1, "threshold": 0.26}
                for name in found
                if found[name][row]
            ]
            for row in range(PART_ROWS)
        ],
        VERDICTS.field("reasons").type,
    )


def _vectors(rng: np.random.Generator) -> pa.Array:
    """Unit vectors ``[rows, d]``, float16."""
    vectors = rng.standard_normal((PART_ROWS, DIMENSIONS), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    offsets = pa.array(np.arange(PART_ROWS + 1, dtype=np.int32) * DIMENSIONS)
    return pa.ListArray.from_arrays(offsets, pa.array(vectors.astype(np.float16).ravel()))


def measure_view(folder: Path) -> list[dict[str, Any]]:
    """The start of the viewer, and every page in the best of some rounds."""
    command = [sys.executable, "-m", "surd", "view", str(folder), "--port", "0"]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().partition("open ")[2].split()[0]
            wall_s = time.perf_counter() - started
            results = [{"page": "start", "wall_s": wall_s, **_cost(process.pid)}]
            like = Workspace(folder).read("samples", 0, ["id"])["id"][7].as_py()
            for name, query in (PAGES | {"alike, by CLIP": {"like": like}}).items():
                for what, cost in _best_round(process.pid, url, query).items():
                    results.append({"page": f"{name}{what}", **cost})
                    say(f"{name}{what}: {cost['wall_s']:.2f} s")
        finally:
            process.terminate()
    return results


def _best_round(pid: int, url: str, query: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """What a page costs; and, with words that one does not find in time, until all are found.

    Since the viewer remembers what it found, each round asks for others.
    """
    rounds = []
    for number in range(ROUNDS):
        asked = {name: value.format(number) for name, value in query.items()}
        costs = {"": _get(pid, url, asked)}
        if "page" not in query and "words" in query:
            costs[", to the end"] = _to_the_end(pid, url, asked, costs[""])
        rounds.append(costs)
    return min(rounds, key=lambda costs: [cost["wall_s"] for cost in costs.values()][-1])


def _to_the_end(
    pid: int, url: str, query: Mapping[str, str], first: Mapping[str, float]
) -> dict[str, float]:
    """Ask as a page does until all samples are searched; with what its first answer took."""
    total = dict(first)
    while True:
        more, answer = _asked(pid, f"{url.rstrip('/')}/search", query)
        total |= {name: total[name] + more[name] for name in ("wall_s", "cpu_s")}
        if json.loads(answer)["searched"] == 1:
            return total | {"mb": more["mb"]}


def _get(pid: int, url: str, query: Mapping[str, str]) -> dict[str, float]:
    return _asked(pid, url, query)[0]


def _asked(pid: int, url: str, query: Mapping[str, str]) -> tuple[dict[str, float], bytes]:
    """What an answer cost, and the answer."""
    before = _cost(pid)["cpu_s"]
    started = time.perf_counter()
    with urllib.request.urlopen(url + "?" + urllib.parse.urlencode(query)) as reply:
        answer = reply.read()
    wall_s = time.perf_counter() - started
    after = _cost(pid)
    return {"wall_s": wall_s, "cpu_s": after["cpu_s"] - before, "mb": after["mb"]}, answer


def _cost(pid: int) -> dict[str, float]:
    """Processor time so far, and memory without the pages of files, which the system may evict."""
    process = psutil.Process(pid)
    times, memory = process.cpu_times(), process.memory_info()
    return {"cpu_s": times.user + times.system, "mb": (memory.rss - memory.shared) / 1e6}


def main() -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--embedded", type=int, help="rows that CLIP has seen; all of them")
    parser.add_argument("--skip-report", action="store_true")
    options = parser.parse_args()
    embedded = options.rows if options.embedded is None else options.embedded
    with tempfile.TemporaryDirectory(prefix="surd-view-") as scratch:
        folder, log = Path(scratch) / "w", Path(scratch) / "log"
        say(f"making {options.rows:,} rows, {embedded:,} with embeddings")
        make_workspace(folder, options.rows, embedded)
        results = measure_view(folder)
        if not options.skip_report:
            command = [sys.executable, "-m", "surd", "report", str(folder), "-q"]
            cost = run_measured(command, log)
            results.append(
                {"page": "report", "wall_s": cost.wall_s, "cpu_s": cost.cpu_s, "mb": cost.peak_mb}
            )
    cells = [
        [one["page"], f"{one['wall_s']:.2f}", f"{one['cpu_s']:.2f}", f"{one['mb']:.0f}"]
        for one in results
    ]
    facts = hardware(["pyarrow", "numpy"])
    print(hardware_line(facts))
    print(format_table(["", "seconds", "processor s", "MB"], cells))
    content = {"rows": options.rows, "embedded": embedded, "results": results}
    write_results("view", {"hardware": facts, **content})


if __name__ == "__main__":
    main()
