"""Judging a million samples anew: time and peak memory of ``surd filter``.

    python benchmarks/filter.py [--rows 1000000]

Makes a workspace with all groups but the images' bytes and the embeddings, which the filter does
not read, in a temporary folder.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from _common import (
    format_table,
    hardware,
    hardware_line,
    memory_measure,
    run_timed,
    run_watched,
    say,
    write_part,
    write_results,
)

from surd.stages.filter.stage import STAGE
from surd.store.workspace import Manifest, Workspace

PART_ROWS = 10_000
PROMPT = "masterpiece, best quality, a portrait of {} in the style of {}, 8k, sharp focus, {}"
RUNS = {
    "threshold": ["--clip-threshold", "0.28"],
    "quantile": ["--clip-threshold", "p30"],
    "caps": ["--set", "filter.max_per_author=50", "--set", "filter.max_per_prompt=3"],
    "dry run": ["--clip-threshold", "0.3", "--dry-run"],
}


def make_workspace(folder: Path, rows: int) -> None:
    """Groups with plausible columns; those the filter does not read stay null."""
    workspace = Workspace(folder)
    sources = [{"kind": "folder", "path": "."}]
    workspace.write_manifest(Manifest(recipe={"name": "filter", "sources": sources}))
    rng = np.random.default_rng(0)
    for part, first in enumerate(range(0, rows, PART_ROWS)):
        count = min(PART_ROWS, rows - first)
        ids = [f"{first + i:032x}" for i in range(count)]
        words = rng.integers(0, 5000, (count, 3))
        columns = {
            "id": ids,
            "source": ["folder"] * count,
            "status": ["ok"] * count,
            "author": [f"author {n}" for n in rng.integers(0, 20_000, count)],
            "nsfw_level": rng.choice(["none", "soft", "x"], count, p=[0.9, 0.08, 0.02]).tolist(),
            "width": rng.integers(256, 2048, count),
            "height": rng.integers(256, 2048, count),
            "complex_prompt": [PROMPT.format(*some) for some in words],
            "language": ["en"] * count,
            "simple_prompt": [f"a portrait of {n}" for n in words[:, 0]],
            "cos_simple": rng.normal(0.29, 0.04, count).astype(np.float32),
            "cos_complex": rng.normal(0.3, 0.04, count).astype(np.float32),
            "nsfw": rng.beta(0.3, 5, count).astype(np.float32),
            "cluster": ids,
            "cluster_size": np.ones(count, np.int32),
        }
        for group in ("samples", *STAGE.reads):
            write_part(workspace, group, part, columns)


def main() -> None:
    """Measure, print a table, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    results, cells = [], []
    with tempfile.TemporaryDirectory(prefix="surd-filter-") as scratch:
        folder, log = Path(scratch) / "w", Path(scratch) / "log"
        say(f"making {rows:,} rows")
        make_workspace(folder, rows)
        for name, flags in RUNS.items():
            command = [sys.executable, "-m", "surd", "filter", str(folder), "-q", *flags]
            usage = run_timed(command, log)
            peak_mb = run_watched([*command, "--dry-run"], log)
            results.append({"run": name, "wall_s": usage.wall_s, "peak_mb": peak_mb})
            cells.append([name, f"{usage.wall_s:.2f}", f"{peak_mb:.0f}"])
            say(f"{name}: {usage.wall_s:.2f} s")
    facts = hardware(["pyarrow", "numpy"])
    print(hardware_line(facts))
    print(format_table(["run", "seconds", f"peak {memory_measure()} MB"], cells))
    write_results("filter", {"hardware": facts, "rows": rows, "results": results})


if __name__ == "__main__":
    main()
