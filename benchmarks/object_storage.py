"""Requests that each stage makes of an object store, for every part of 10,000 rows.

    python benchmarks/object_storage.py

Runs the stages of ``scale.py`` against moto's S3 on loopback, on one part and on three, and counts
what s3fs asks. Time is not measured: it would be moto's.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

from _common import BenchmarkError, format_table, hardware, say, write_results
from scale import PART_ROWS, make_scores, make_source, stage_command, write_recipe

STAGES = ("collect", "download", "prompts", "caption", "dedup", "filter", "publish", "status")
PARTS = (1, 3)
READS = {"get_object": "GET", "head_object": "HEAD", "list_objects_v2": "LIST"}
BUCKET = "bucket"
COUNTING = """
import collections, json, sys
import s3fs
calls = collections.Counter()
call = s3fs.S3FileSystem._call_s3
async def counting(self, method, *args, **kwargs):
    calls[method if isinstance(method, str) else method.__name__] += 1
    return await call(self, method, *args, **kwargs)
s3fs.S3FileSystem._call_s3 = counting
from surd.cli.app import main
code = 0
try:
    main()
except SystemExit as error:
    code = error.code or 0
finally:
    print("\\ncalls", json.dumps(calls))
sys.exit(code)
"""


def count(command: list[str]) -> Counter[str]:
    """The requests of one command."""
    arguments = command[command.index("surd") + 1 :]
    done = subprocess.run(
        [sys.executable, "-c", COUNTING, *arguments], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchmarkError(f"{' '.join(arguments)}: {done.stdout}{done.stderr}")
    found: Counter[str] = Counter()
    for name, times in json.loads(done.stdout.rpartition("\ncalls")[2]).items():
        if not name.startswith("delete"):  # which costs nothing
            found[READS.get(name, "PUT, COPY")] += times
    return found


def measure(work: Path) -> dict[str, dict[str, Any]]:
    """Stage -> requests of each kind for one more part, and for none."""
    counts: dict[str, list[Counter[str]]] = {stage: [] for stage in STAGES}
    for parts in PARTS:
        here = work / str(parts)
        here.mkdir()
        make_source(here / "source", parts * PART_ROWS)
        write_recipe(here / "recipe.yaml", here / "source")
        folder: Any = f"s3://{BUCKET}/w{parts}"
        for stage in STAGES:
            if stage == "dedup":
                make_scores(folder)
            command = stage_command(stage, here, folder)
            if stage == "prompts":
                command += ["--workers", "1"]  # what other processes ask for is not counted
            counts[stage].append(count(command))
            say(f"{parts} parts: {stage} {dict(counts[stage][-1])}")
    more = PARTS[1] - PARTS[0]
    return {
        stage: {
            kind: {
                "a_part": (large[kind] - small[kind]) / more,
                "besides": small[kind] - PARTS[0] * (large[kind] - small[kind]) / more,
            }
            for kind in sorted(small | large)
        }
        for stage, (small, large) in counts.items()
    }


def main() -> None:
    """Count, print a table, write the results."""
    from moto.server import ThreadedMotoServer

    argparse.ArgumentParser(description=__doc__.split("\n", 1)[0]).parse_args()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    os.environ |= {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    try:
        import boto3

        boto3.client("s3").create_bucket(Bucket=BUCKET)
        with tempfile.TemporaryDirectory(prefix="surd-requests-") as scratch:
            found = measure(Path(scratch))
    finally:
        server.stop()
    kinds = sorted({kind for some in found.values() for kind in some})
    cells = [
        [stage, *(f"{some[kind]['a_part']:.1f}" if kind in some else "0" for kind in kinds)]
        for stage, some in found.items()
    ]
    print(format_table([f"requests a part of {PART_ROWS:,} rows", *kinds], cells))
    facts = hardware(["pyarrow", "s3fs", "moto"])
    write_results(
        "object_storage", {"hardware": facts, "rows_a_part": PART_ROWS, "requests": found}
    )


if __name__ == "__main__":
    main()
