"""``surd export RUN preferences``: what an evaluation preferred, as pairs to train on.

The form is that of Pick-a-Pic v2 (https://huggingface.co/datasets/yuvalkirstain/pickapic_v2), which
the trainers of Diffusion-DPO (https://arxiv.org/abs/2311.12908) read.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from surd.adapter.drawing import open_rgb
from surd.errors import SurdError, command
from surd.evaluate.measures import SIDES
from surd.evaluate.pictures import find_picture
from surd.evaluate.soft import COLUMNS, PROMPTS, VQA_SCORE
from surd.store.storage import local_path

DECIDES = (COLUMNS[PROMPTS], COLUMNS[VQA_SCORE], "right")
"""Columns of evaluation.parquet: the first that both pictures of a pair have a number in."""
SCHEMA = pa.schema(
    [
        pa.field("jpg_0", pa.binary()),
        pa.field("jpg_1", pa.binary()),
        pa.field("caption", pa.string()),
        pa.field("label_0", pa.float64()),
        pa.field("label_1", pa.float64()),
        pa.field("image_0_uid", pa.string()),
        pa.field("image_1_uid", pa.string()),
        pa.field("best_image_uid", pa.string()),
        pa.field("model_0", pa.string()),
        pa.field("model_1", pa.string()),
        pa.field("ranking_id", pa.int64()),
        pa.field("are_different", pa.bool_()),
        pa.field("has_label", pa.bool_()),
        pa.field("seed", pa.int64()),
        pa.field("score_0", pa.float64()),
        pa.field("score_1", pa.float64()),
        pa.field("decided_by", pa.string()),
    ]
)
"""Pick-a-Pic's columns, then the seed of the noise, and the scores that decided."""
_ROWS_AT_ONCE = 64
_QUALITY = 95


@dataclass(frozen=True)
class Exported:
    """What was written."""

    location: str
    pairs: int
    adapter_wins: int
    ties: int
    """Pairs that are left out, since both pictures score alike."""


@dataclass(frozen=True)
class _Pair:
    """Two pictures of one prompt from one noise, without and with the adapter."""

    prompt: str
    seed: int
    pictures: tuple[str, str]
    scores: tuple[float, float]
    decided_by: str


def export_preferences(run: str | Path, out: str | Path) -> Exported:
    """Write the pairs of an evaluated adapter as the Parquet file `out`, whole or not at all.

    Raises SurdError where the run is not evaluated, a picture is gone, or `out` exists.
    """
    folder, out = local_path(run), local_path(out)
    source = folder / "evaluation.parquet"
    if not source.is_file():
        raise SurdError(f"{folder}: not evaluated yet; first run: {command('evaluate', run)}")
    if out.exists():
        raise SurdError(f"{out}: already exists; choose another file, or delete it")
    try:
        pairs = list(_pairs(pq.read_table(source)))
    except (OSError, KeyError, pa.ArrowInvalid) as error:
        reason = " ".join(str(error).split())
        raise SurdError(
            f"{source}: cannot be read: {reason:.200}; run surd evaluate again"
        ) from error
    decided = [pair for pair in pairs if pair.scores[0] != pair.scores[1]]
    if not decided:
        raise SurdError(f"{folder}: none of its {len(pairs):,} pairs has a winner; evaluate more")
    temporary = out.with_name(f".{out.name}.surd-export.tmp")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
            for first in range(0, len(decided), _ROWS_AT_ONCE):
                some = decided[first : first + _ROWS_AT_ONCE]
                rows = [_row(folder, pair, first + n) for n, pair in enumerate(some)]
                writer.write_table(pa.Table.from_pylist(rows, SCHEMA))
        temporary.replace(out)
    except OSError as error:
        raise SurdError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        with contextlib.suppress(OSError):  # where there is no folder, there is no file
            temporary.unlink()
    wins = sum(pair.scores[1] > pair.scores[0] for pair in decided)
    return Exported(str(out), len(decided), wins, len(pairs) - len(decided))


def _pairs(table: pa.Table) -> Iterator[_Pair]:
    """In the order of prompts; a prompt with several kinds counts with the mean over them."""
    found: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = {}
    wanted = ["side", "prompt", "seed", "picture", *DECIDES]
    for row in table.select([name for name in wanted if name in table.column_names]).to_pylist():
        sides = found.setdefault((row["prompt"], row["seed"]), {})
        sides.setdefault(row["side"], []).append(row)
    for (prompt, seed), sides in found.items():
        if set(sides) >= set(SIDES):
            both = [sides[side] for side in SIDES]
            measure, scores = _scores(both)
            pictures = (both[0][0]["picture"], both[1][0]["picture"])
            yield _Pair(prompt, seed, pictures, scores, measure)


def _scores(both: Sequence[Sequence[dict[str, Any]]]) -> tuple[str, tuple[float, float]]:
    """The column that decides, and its means over the rows of either picture."""
    for measure in DECIDES:
        values = [[float(v) for r in rows if (v := r.get(measure)) is not None] for rows in both]
        first, second = (sum(some) / len(some) if some else math.nan for some in values)
        if not math.isnan(first + second):
            return measure, (first, second)
    return "right", (0.0, 0.0)


def _row(folder: Path, pair: _Pair, number: int) -> dict[str, Any]:
    jpegs = [_jpeg(folder, picture) for picture in pair.pictures]
    uids = [hashlib.sha256(picture.encode()).hexdigest()[:32] for picture in pair.pictures]
    wins = pair.scores[1] > pair.scores[0]
    return {
        "jpg_0": jpegs[0],
        "jpg_1": jpegs[1],
        "caption": pair.prompt,
        "label_0": float(not wins),
        "label_1": float(wins),
        "image_0_uid": uids[0],
        "image_1_uid": uids[1],
        "best_image_uid": uids[wins],
        "model_0": SIDES[0],
        "model_1": SIDES[1],
        "ranking_id": number,
        "are_different": True,
        "has_label": True,
        "seed": pair.seed,
        "score_0": pair.scores[0],
        "score_1": pair.scores[1],
        "decided_by": pair.decided_by,
    }


def _jpeg(folder: Path, picture: str) -> bytes:
    path = find_picture(picture, folder)
    if path is None:
        raise SurdError(f"{folder}: picture {picture} is gone; run surd evaluate again to draw it")
    buffer = io.BytesIO()
    open_rgb(path).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
