"""Finding duplicates: time, memory, and the share found of what going through all pairs finds.

    python benchmarks/dedup.py [--rows 1000000] [--peer] [--only clip exact …]

Makes embeddings, hashes and digests once in a work folder. With --peer, which needs faiss-cpu, the
same embeddings are searched with a faiss index too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from _common import (
    RESULTS,
    BenchmarkError,
    format_table,
    hardware,
    hardware_line,
    memory_measure,
    run_watched,
    say,
    write_results,
)

from surd.stages.dedup import cells, cosine
from surd.stages.dedup.find import find

DIMS = 512
MIN_COSINE = 0.95
COPIES = 20
"""One row in so many is a near-duplicate of another, by embedding or by hash."""
FLAT = 100
"""One row in so many has the hash of a flat picture."""
PEER_PROBES = 8
_BLOCK = 20_000


# the rows ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """Where the rows are."""

    folder: Path
    rows: int

    def embeddings(self) -> np.ndarray:
        """``[rows, DIMS]`` float16, mapped."""
        mapped: np.ndarray = np.load(self.folder / "embeddings.npy", mmap_mode="r")
        return mapped

    def hashes(self) -> list[str]:
        """16 hexadecimal digits each."""
        return [f"{value:016x}" for value in np.load(self.folder / "hashes.npy").tolist()]

    def sha256(self) -> list[str]:
        """Digests; one row in ``COPIES`` repeats another's."""
        return [f"{value:064x}" for value in np.load(self.folder / "files.npy").tolist()]


def make_table(rows: int, root: Path) -> Table:
    """Make ``rows`` rows, once; all later runs find them."""
    folder = root / f"rows-{rows}"
    if not (folder / "ready").exists():
        say(f"making {rows:,} rows in {folder}")
        folder.mkdir(parents=True, exist_ok=True)
        make_embeddings(rows, folder / "embeddings.npy", np.random.default_rng(0))
        np.save(folder / "hashes.npy", make_hashes(rows, np.random.default_rng(1)))
        files = np.arange(rows)
        rng = np.random.default_rng(2)
        files[rng.choice(rows, rows // COPIES, replace=False)] = rng.choice(rows, rows // COPIES)
        np.save(folder / "files.npy", files)
        (folder / "ready").touch()
    return Table(folder, rows)


def make_embeddings(n: int, path: Path, rng: np.random.Generator) -> None:
    """Unit vectors that lie as CLIP's image embeddings do.

    All share a direction, so that unrelated rows have cosines of 0.3 to 0.6; topics and subtopics
    of very different sizes (power laws) within; variance falls with the dimension. Some subtopics
    are tight: their rows have cosines around the threshold by themselves. Near-duplicates, with
    cosines spread evenly from the threshold to 0.999, are added.
    """
    spectrum = (np.arange(1, DIMS + 1) ** -0.5).astype(np.float32)
    spectrum /= np.linalg.norm(spectrum)

    def draw(m: int) -> np.ndarray:
        return rng.standard_normal((m, DIMS), dtype=np.float32) * spectrum

    common = draw(1)
    common /= np.linalg.norm(common)
    topics, subtopics = draw(2 * int(n**0.5)), draw(n // 20)
    popularity = np.arange(1, len(topics) + 1) ** -0.7
    topic_of = rng.choice(len(topics), len(subtopics), p=popularity / popularity.sum())
    share = rng.pareto(1.5, len(subtopics)) + 0.2
    subtopic_of = rng.choice(len(subtopics), n, p=share / share.sum())
    looseness = rng.uniform(0.25, 0.7, len(subtopics)).astype(np.float32)
    rows = np.lib.format.open_memmap(path, "w+", np.float16, (n, DIMS))
    for begin in range(0, n, _BLOCK):
        which = subtopic_of[begin : begin + _BLOCK]
        centre = 0.7 * common + 0.45 * topics[topic_of[which]] + 0.4 * subtopics[which]
        vectors = centre + draw(len(which)) * looseness[which][:, None]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        rows[begin : begin + _BLOCK] = vectors
    count = n // COPIES
    chosen = rng.choice(n, 2 * count, replace=False)
    for begin in range(0, count, _BLOCK):
        originals = chosen[begin : min(begin + _BLOCK, count)]
        vectors = rows[originals].astype(np.float32)
        noise = draw(len(vectors))
        noise -= np.sum(noise * vectors, axis=1, keepdims=True) * vectors
        noise /= np.linalg.norm(noise, axis=1, keepdims=True)
        angle = np.arccos(rng.uniform(MIN_COSINE, 0.999, (len(vectors), 1)))
        rows[chosen[count + begin : count + begin + len(vectors)]] = (
            np.cos(angle) * vectors + np.sin(angle) * noise
        )
    rows.flush()


def make_hashes(n: int, rng: np.random.Generator) -> np.ndarray:
    """``[n]`` uint64: low frequencies mostly alike, high ones at random; some near others, some
    those of flat pictures."""
    chance = np.clip(rng.normal(0.5, 0.15, 64), 0.1, 0.9)
    hashes = np.zeros(n, np.uint64)
    for bit in range(64):
        hashes |= (rng.random(n) < chance[bit]).astype(np.uint64) << np.uint64(bit)
    copies = rng.choice(n, n // COPIES, replace=False)
    hashes[copies] = hashes[rng.choice(n, copies.size)]
    for _ in range(4):
        hashes[copies] ^= np.uint64(1) << rng.integers(0, 64, copies.size, dtype=np.uint64)
    hashes[rng.choice(n, n // FLAT, replace=False)] = np.uint64(1 << 63)
    return hashes


# what is measured, each in a process of its own ------------------------------------------------


def find_exact(table: Table) -> dict[str, Any]:
    """Equal digests alone."""
    return _find(table, table.sha256(), None, None)


def find_hashes(table: Table) -> dict[str, Any]:
    """Near hashes alone."""
    return _find(table, [None] * table.rows, table.hashes(), None)


def find_clip(table: Table) -> dict[str, Any]:
    """Near embeddings alone."""
    return _find(table, [None] * table.rows, None, table.embeddings())


def find_all(table: Table) -> dict[str, Any]:
    """Everything at once, as a build does."""
    return _find(table, table.sha256(), table.hashes(), table.embeddings())


def _find(table: Table, sha256: Any, phash: Any, embeddings: Any) -> dict[str, Any]:
    ids = [f"{number:032x}" for number in range(table.rows)]
    quality = np.random.default_rng(3).integers(0, 1 << 20, table.rows)
    started, cpu = time.perf_counter(), time.process_time()
    found = find(sha256, phash, embeddings, quality, ids, min_cosine=MIN_COSINE)
    times = {"wall_s": time.perf_counter() - started, "cpu_s": time.process_time() - cpu}
    return {**times, "dropped": int(table.rows - found.kept.sum())}


def find_with_faiss(table: Table) -> dict[str, Any]:
    """faiss's IVF index over float16, as many cells, all rows as queries, of which pairs come."""
    import faiss

    rows = np.asarray(table.embeddings())
    started, cpu = time.perf_counter(), time.process_time()
    k = cells.cell_count(len(rows))
    kind = faiss.ScalarQuantizer.QT_fp16
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(DIMS), DIMS, k, kind, faiss.METRIC_INNER_PRODUCT
    )
    index.by_residual = False
    rng = np.random.default_rng(0)
    sample = np.sort(rng.choice(len(rows), min(len(rows), 40 * k), replace=False))
    index.cp.niter = 5
    index.train(rows[sample].astype(np.float32))
    for begin in range(0, len(rows), _BLOCK):
        index.add(rows[begin : begin + _BLOCK].astype(np.float32))
    index.nprobe = PEER_PROBES
    keys = []
    for begin in range(0, len(rows), _BLOCK):
        queries = rows[begin : begin + _BLOCK].astype(np.float32)
        limits, _, near = index.range_search(queries, MIN_COSINE)
        ends: npt.NDArray[np.int64] = limits.astype(np.int64)
        who = begin + np.repeat(np.arange(len(queries)), ends[1:] - ends[:-1])
        keys.append((who * len(rows) + near)[who != near])
    times = {"wall_s": time.perf_counter() - started, "cpu_s": time.process_time() - cpu}
    a, b = sample_pairs(table)
    found = np.isin(a * len(rows) + b, np.concatenate(keys))
    found |= np.isin(b * len(rows) + a, np.concatenate(keys))
    return {**times, "recall": float(found.mean())}


CASES = {
    "exact": find_exact,
    "phash": find_hashes,
    "clip": find_clip,
    "all three": find_all,
    "faiss": find_with_faiss,
}


# how much is found ------------------------------------------------------------------------------


def sample_pairs(table: Table, queries: int = 2_000) -> tuple[np.ndarray, np.ndarray]:
    """Every pair, of ``queries`` rows with all rows, at or above the threshold."""
    cache = table.folder / f"pairs-{queries}.npy"
    if not cache.exists():
        rows = table.embeddings()
        rng = np.random.default_rng(4)
        asked = np.sort(rng.choice(table.rows, min(queries, table.rows), replace=False))
        vectors = cosine.read_units(rows, asked)
        pairs = []
        for begin in range(0, table.rows, _BLOCK):
            part = np.arange(begin, min(begin + _BLOCK, table.rows))
            i, j = np.nonzero(vectors @ cosine.read_units(rows, part).T >= MIN_COSINE)
            pairs.append(np.stack([asked[i], part[j]]))
        a, b = np.concatenate(pairs, axis=1)
        np.save(cache, np.stack([a[a != b], b[a != b]]))
    a, b = np.load(cache)
    return a, b


def recall(table: Table) -> dict[str, Any]:
    """Which of the sampled pairs share a cell, so that they are compared."""
    rows, n = table.embeddings(), table.rows
    read = partial(cosine.read_units, rows)
    made = cells.make_cells(np.arange(n), read, cosine.reach_for(MIN_COSINE), seed=0)
    k = made.member_begins.size - 1
    home = np.empty(n, np.int64)
    home[made.members] = np.repeat(np.arange(k), np.diff(made.member_begins))
    visits = made.visitors * k + np.repeat(np.arange(k), np.diff(made.visitor_begins))
    a, b = sample_pairs(table)
    found = (home[a] == home[b]) | np.isin(a * k + home[b], visits)
    found |= np.isin(b * k + home[a], visits)
    value = cosine.exact_cosines(rows, a, b)
    low = value < 0.96
    return {
        "pairs": int(a.size),
        "recall": float(found.mean()),
        "recall_below_0.96": float(found[low].mean()),
        "recall_from_0.96": float(found[~low].mean()),
        "cells": k,
        "visits_per_row": made.visitors.size / n,
        "largest_cell": int(np.diff(made.member_begins).max()),
    }


# the report -------------------------------------------------------------------------------------


def run_case(name: str, table: Table) -> dict[str, Any]:
    """Run one case in a process of its own, watching its memory."""
    answer = table.folder / "answer.json"
    command: list[str | Path] = [
        sys.executable,
        Path(__file__),
        "--rows",
        str(table.rows),
        "--case",
        name,
    ]
    peak_mb = run_watched([*command, "--workdir", table.folder.parent], table.folder / "log")
    result = {**json.loads(answer.read_text()), "peak_mb": peak_mb}
    say(f"{name}: {result['wall_s']:.1f} s, {result['cpu_s']:.1f} s of processor time")
    return {key: round(value, 4) for key, value in result.items()}


def run(options: argparse.Namespace, workdir: Path) -> None:
    """All cases; prints the table and writes the results file."""
    table = make_table(options.rows, workdir)
    names = options.only or [name for name in CASES if name != "faiss" or options.peer]
    facts = hardware(["surd", "numpy", "pyarrow", *(["faiss-cpu"] if "faiss" in names else [])])
    cases = {name: run_case(name, table) for name in names}
    found = {key: round(value, 4) for key, value in recall(table).items()}
    if "clip" in cases:
        cases["clip"]["recall"] = found["recall"]
    lines = [
        [
            name,
            f"{case['wall_s']:.1f}",
            f"{case['cpu_s']:.1f}",
            f"{case['peak_mb']:.0f}",
            f"{case['dropped']:,}" if "dropped" in case else "",
            f"{case['recall']:.4f}" if "recall" in case else "",
        ]
        for name, case in cases.items()
    ]
    print(hardware_line(facts))
    print(f"{options.rows:,} rows, {DIMS} numbers each")
    print(format_table(["", "wall s", "cpu s", "MB", "dropped", "recall"], lines))
    print(json.dumps(found))
    content = {"hardware": facts, "rows": options.rows, "dims": DIMS, "min_cosine": MIN_COSINE}
    content |= {"memory": memory_measure(), "note": options.note, "clip_recall": found}
    path = write_results(
        "dedup", _other_runs(options.rows) | {str(options.rows): content | {"cases": cases}}
    )
    say(f"wrote {path}")


def _other_runs(rows: int) -> dict[str, Any]:
    """What the results file says of other numbers of rows."""
    path = RESULTS / "dedup.json"
    runs: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    return {key: value for key, value in runs.items() if key != str(rows)}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--peer", action="store_true", help="compare with faiss")
    parser.add_argument("--only", nargs="+", choices=CASES, help="these cases")
    parser.add_argument("--note", default="", help="what the results file says of this run")
    parser.add_argument("--workdir", type=Path)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    workdir = options.workdir or Path(tempfile.gettempdir()) / "surd-bench-dedup"
    try:
        if options.case:
            table = Table(workdir / f"rows-{options.rows}", options.rows)
            answer = CASES[options.case](table)
            (table.folder / "answer.json").write_text(json.dumps(answer))
        else:
            run(options, workdir)
    except BenchmarkError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
