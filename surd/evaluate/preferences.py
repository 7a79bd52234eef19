"""``surd export RUN preferences``: what an evaluation preferred, as pairs to train on.

The form is that of Pick-a-Pic v2 (https://huggingface.co/datasets/yuvalkirstain/pickapic_v2), which
the trainers of Diffusion-DPO (https://arxiv.org/abs/2311.12908) read.
"""

from __future__ import annotations

import hashlib
import io
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from surd.adapter.drawing import open_rgb
from surd.adapter.files import read_config
from surd.errors import SurdError, command
from surd.evaluate.measures import SIDES
from surd.evaluate.outcomes import FILE, KEYS, LOWER_IS_BETTER, read_outcomes
from surd.evaluate.pictures import find_picture
from surd.evaluate.soft import COLUMNS, PROMPTS, VQA_SCORE
from surd.store.beside import temporary_beside
from surd.store.storage import local_path

DEFAULTS = (COLUMNS[PROMPTS], COLUMNS[VQA_SCORE], "right")
"""Columns of evaluation.parquet: where nobody says which, the first that has a number for at least
half of the pairs decides all of them."""
SCHEMA = pa.schema(
    [
        pa.field("are_different", pa.bool_()),
        pa.field("best_image_uid", pa.string()),
        pa.field("caption", pa.string()),
        pa.field("created_at", pa.timestamp("ns")),
        pa.field("has_label", pa.bool_()),
        pa.field("image_0_uid", pa.string()),
        pa.field("image_0_url", pa.string()),
        pa.field("image_1_uid", pa.string()),
        pa.field("image_1_url", pa.string()),
        pa.field("jpg_0", pa.binary()),
        pa.field("jpg_1", pa.binary()),
        pa.field("label_0", pa.float64()),
        pa.field("label_1", pa.float64()),
        pa.field("model_0", pa.string()),
        pa.field("model_1", pa.string()),
        pa.field("ranking_id", pa.int64()),
        pa.field("user_id", pa.int64()),
        pa.field("num_example_per_prompt", pa.int64()),
        pa.field("seed", pa.int64()),
        pa.field("score_0", pa.float64()),
        pa.field("score_1", pa.float64()),
        pa.field("decided_by", pa.string()),
    ]
)
"""Pick-a-Pic's columns, in its order; urls, times and users are null. Then the seed of the noise,
and the scores that decided."""
_ROWS_AT_ONCE = 64
_ROUNDING = 1e-9
"""Of a difference, relative: 0.7 - 0.6 is not less than 0.1."""
_QUALITY = 95


@dataclass(frozen=True)
class Exported:
    """What was written."""

    location: str
    by: str
    """The column of evaluation.parquet that decided."""
    pairs: int
    adapter_wins: int
    ties: int
    """Pairs that are left out, since both pictures score alike."""
    below_margin: int
    """Pairs that are left out, since their scores differ by less than the margin."""
    without_score: int
    """Pairs that are left out, since a picture of theirs has no number."""
    median_difference: float
    """Between the scores of the pairs that were written."""


Judged = Mapping[tuple[str, str], Mapping[str, Any]]
"""Set and kind of a prompt -> the row of evaluation.parquet about a picture."""


@dataclass(frozen=True)
class _Pair:
    """Two pictures of one prompt from one noise, without and with the adapter."""

    prompt: str
    seed: int
    judged: tuple[Judged, Judged]

    @property
    def pictures(self) -> list[str]:
        """Their names."""
        return [next(iter(some.values()))["picture"] for some in self.judged]

    def scores(self, by: str) -> tuple[float, float] | None:
        """The means over what both pictures have a number of; None where that is nothing."""
        first, second = self.judged
        both = [
            (one, other)
            for key in first.keys() & second.keys()
            if (one := _number(first[key].get(by))) is not None
            and (other := _number(second[key].get(by))) is not None
        ]
        if not both:
            return None
        return (
            math.fsum(one for one, _ in both) / len(both),
            math.fsum(other for _, other in both) / len(both),
        )


@dataclass(frozen=True)
class _Decided:
    """A pair with a winner."""

    pair: _Pair
    scores: tuple[float, float]
    adapter_wins: bool


def export_preferences(
    run: str | Path, out: str | Path, by: str | None = None, *, margin: float = 0.0
) -> Exported:
    """Write the pairs of an evaluated adapter as the Parquet file `out`, whole or not at all.

    `by` is the column of evaluation.parquet that says which picture is better; None: the first of
    DEFAULTS that has enough numbers. Scores that differ by less than `margin` are no preference.
    Raises SurdError where the run is not evaluated, or not by that, a picture is gone, or `out`
    exists or is not named as Parquet.
    """
    folder, out = local_path(run), local_path(out)
    if out.suffix.lower() != ".parquet":
        raise SurdError(f"{out}: preferences are a Parquet file; choose a name ending in .parquet")
    if not 0 <= margin < math.inf:
        raise SurdError(f"--margin {margin}: not a difference; choose a number from 0 on")
    source = folder / FILE
    if not source.is_file():
        read_config(folder)
        raise SurdError(f"{folder}: not evaluated yet; first run: {command('evaluate', run)}")
    if out.exists():
        raise SurdError(f"{out}: already exists; choose another file, or delete it")
    table = read_outcomes(source, list(KEYS))
    pairs = list(_pairs(table))
    measures = [name for name in table.column_names if name not in KEYS]
    if by is not None and by not in measures:
        raise SurdError(
            f"--by {by}: {source} has no such measure; take one of {', '.join(measures)}, or "
            "evaluate with another"
        )
    by = by or _default(pairs, measures)
    scored = [(pair, scores) for pair in pairs if (scores := pair.scores(by)) is not None]
    lower_wins = by in measures and LOWER_IS_BETTER in (table.schema.field(by).metadata or {})
    least = margin * (1 - _ROUNDING)
    decided = [
        _Decided(pair, (base, adapter), (adapter > base) != lower_wins)
        for pair, (base, adapter) in scored
        if base != adapter and abs(adapter - base) >= least
    ]
    ties = sum(base == adapter for _, (base, adapter) in scored)
    close, missing = len(scored) - len(decided) - ties, len(pairs) - len(scored)
    if not decided:
        within = f"{close:,} differ by less than {margin:g}, " if close else ""
        lower = "lower --margin, " if close else ""
        raise SurdError(
            f"{folder}: none of its {len(pairs):,} pairs has a winner by {by} ({ties:,} tie, "
            f"{within}{missing:,} have no number); {lower}take another measure with --by "
            f"({', '.join(measures)}), or evaluate more"
        )
    _write(out, _rows(folder, decided, by))
    wins = sum(one.adapter_wins for one in decided)
    between = median(abs(adapter - base) for base, adapter in (one.scores for one in decided))
    return Exported(str(out), by, len(decided), wins, ties, close, missing, between)


def _number(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _default(pairs: Sequence[_Pair], measures: Sequence[str]) -> str:
    for by in DEFAULTS:
        if by in measures and 2 * sum(pair.scores(by) is not None for pair in pairs) >= len(pairs):
            return by
    return DEFAULTS[-1]


def _pairs(table: pa.Table) -> Iterator[_Pair]:
    """In the order of prompts."""
    found: dict[tuple[str, int], dict[str, dict[tuple[str, str], dict[str, Any]]]] = {}
    for row in table.to_pylist():
        sides = found.setdefault((row["prompt"], row["seed"]), {})
        sides.setdefault(row["side"], {})[row["prompts"], row["kind"]] = row
    base, adapter = SIDES
    for (prompt, seed), sides in found.items():
        if base in sides and adapter in sides:
            yield _Pair(prompt, seed, (sides[base], sides[adapter]))


def _rows(folder: Path, decided: Sequence[_Decided], by: str) -> Iterator[dict[str, Any]]:
    of_prompt = Counter(one.pair.prompt for one in decided)
    for number, one in enumerate(decided):
        pictures = one.pair.pictures
        uids = [hashlib.sha256(picture.encode()).hexdigest()[:32] for picture in pictures]
        yield {
            "are_different": True,
            "best_image_uid": uids[one.adapter_wins],
            "caption": one.pair.prompt,
            "has_label": True,
            "image_0_uid": uids[0],
            "image_1_uid": uids[1],
            "jpg_0": _jpeg(folder, pictures[0]),
            "jpg_1": _jpeg(folder, pictures[1]),
            "label_0": float(not one.adapter_wins),
            "label_1": float(one.adapter_wins),
            "model_0": SIDES[0],
            "model_1": SIDES[1],
            "ranking_id": number,
            "num_example_per_prompt": of_prompt[one.pair.prompt],
            "seed": one.pair.seed,
            "score_0": one.scores[0],
            "score_1": one.scores[1],
            "decided_by": by,
        }


def _write(out: Path, rows: Iterator[dict[str, Any]]) -> None:
    """As one file, whole or not at all. Raises SurdError."""
    temporary = None
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        temporary = temporary_beside(out)
        with pq.ParquetWriter(temporary, SCHEMA, compression="zstd") as writer:
            while some := list(islice(rows, _ROWS_AT_ONCE)):
                writer.write_table(pa.Table.from_pylist(some, SCHEMA))
        temporary.replace(out)
    except OSError as error:
        raise SurdError(f"{out}: cannot be written: {error.strerror or error}") from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def _jpeg(folder: Path, picture: str) -> bytes:
    path = find_picture(picture, folder)
    if path is None:
        raise SurdError(f"{folder}: picture {picture} is gone; run surd evaluate again to draw it")
    buffer = io.BytesIO()
    open_rgb(path).save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()
