"""Folders of training runs as surd leaves them, without training."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

SETTINGS = {"diffusion": "/home/me/models/sd", "llm": "org/llm", "steps": 4, "batch_size": 2}
SIDES = ("base", "adapter")


def make_run(folder: Path, lines: Sequence[Mapping[str, Any]] = (), **settings: Any) -> Path:
    folder.mkdir(parents=True)
    (folder / "settings.json").write_text(json.dumps({**SETTINGS, **settings}))
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def paint(path: Path, side: int = 32, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8)
    Image.fromarray(noise).save(path)


def judge(
    run: Path,
    right: Sequence[tuple[bool | None, bool | None]],
    prompt: str = "prompt",
    side: int = 32,
) -> None:
    """Leave what `surd evaluate` leaves, a prompt each: right without, right with."""
    rows = []
    for number, both in enumerate(right):
        for side_name, good in zip(SIDES, both, strict=True):
            name = f"{side_name}/{number}.png"
            paint(run / "pictures" / name, side, number)
            rows.append(
                {
                    "prompts": "mine", "side": side_name, "kind": "count", "seed": 0,
                    "prompt": f"{prompt} {number}", "right": good, "questions": ["how many?"],
                    "wanted": ["2"], "said": ["two" if good else "3"], "picture": name,
                }
            )  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), run / "evaluation.parquet")
    estimate = {"value": 0.1, "low": 0.05, "high": 0.15}
    row = {
        "prompts": "mine", "measure": prompt, "pictures": len(right), "base": estimate,
        "adapter": estimate, "difference": estimate, "p": 0.01, "lower_is_better": False,
    }  # fmt: skip
    text = json.dumps({"format": "surd-evaluation-1", "seeds": 1, "rows": [row]})
    (run / "evaluation.json").write_text(text)
