"""Filter: verdicts on every sample, each with its reasons. Nothing is deleted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field

from surd.params import Params
from surd.stages.base import Stage, TableFunction, WholeTable
from surd.stages.filter.rules import MISSING, Finding, Rows, find, read_rows
from surd.stages.filter.thresholds import Cosine, Threshold
from surd.store.manual import REASON
from surd.store.schema import VERDICTS

NsfwLevel = Literal["none", "soft", "mature", "x"]


class FilterParams(Params):
    """What a sample needs to be kept. Each filter gives its own reason; null turns it off."""

    clip_threshold: Cosine | None = Field(
        default=0.26, description="least cosine(image, simple prompt): a number, or pN"
    )
    complex_threshold: Cosine | None = Field(
        default=None, description="least cosine(image, complex prompt): a number, or pN"
    )
    min_margin: Threshold | None = Field(
        default=None, description="least cosine(image, simple) - cosine(image, complex), or pN"
    )
    min_itm: Threshold | None = Field(
        default=None, description="least image-text matching probability, or pN"
    )
    min_aesthetic: Threshold | None = Field(default=None, description="least aesthetic score or pN")
    max_nsfw: float | None = Field(
        default=0.5, ge=0, le=1, description="highest nsfw score of the image model"
    )
    max_nsfw_level: NsfwLevel | None = Field(
        default="soft", description="highest level by the source's own word"
    )
    nsfw_words: bool = Field(default=True, description="drop prompts with explicit words")
    min_side: int | None = Field(default=256, ge=1, description="least shorter side in pixels")
    max_aspect: float | None = Field(default=3.0, ge=1, description="longer side / shorter side")
    duplicates: tuple[Literal["exact", "phash", "clip"], ...] = Field(
        default=("exact", "phash", "clip"), description="kinds of duplicates to drop"
    )
    languages: tuple[str, ...] | None = Field(
        default=None, description="languages of the complex prompt to keep, as [en]"
    )
    min_words: int | None = Field(
        default=3, ge=1, description="least words in the complex prompt; fewer is boilerplate"
    )
    max_per_prompt: int | None = Field(
        default=None, ge=1, description="samples with the same complex prompt, the best by CLIP"
    )
    max_per_author: int | None = Field(
        default=None, ge=1, description="samples of one author, the best by CLIP"
    )
    watermark_words: bool = Field(
        default=True, description="drop images whose caption speaks of a watermark or a logo"
    )


def open_(params: FilterParams) -> TableFunction:
    """The function that judges all rows."""
    return lambda whole: judge(whole, params)


def judge(whole: WholeTable, params: FilterParams) -> Iterator[pa.Table]:
    """Verdicts, one table a part."""
    sizes, rows = read_rows(whole(), params)
    findings = find(rows, params)
    reasons = _reasons(findings, len(rows.ids))
    keep = _kept(findings, rows)
    table = pa.Table.from_arrays([rows.ids, pa.array(keep), reasons], names=VERDICTS.names)
    start = 0
    for size in sizes:
        yield table.slice(start, size).cast(VERDICTS)
        start += size


def _kept(findings: list[Finding], rows: Rows) -> npt.NDArray[np.bool_]:
    """What nothing drops, and what is kept by hand and whole."""
    kept_by_hand = rows.kept_by_hand()
    keep = ~rows.dropped_by_hand()
    for finding in findings:
        if finding.reason != REASON:
            keep[finding.rows] &= (finding.reason not in MISSING) & kept_by_hand[finding.rows]
    return keep


def _reasons(findings: list[Finding], count: int) -> pa.ListArray:
    """Every finding as an entry of its row's list, in the order of the rules."""
    entry_type = VERDICTS.field("reasons").type.value_type
    if not findings:
        return pa.array([[]] * count, VERDICTS.field("reasons").type)
    at = np.concatenate([finding.rows for finding in findings])
    order = np.argsort(at, kind="stable")
    entries = pa.concat_arrays([_entries(finding, entry_type) for finding in findings])
    offsets = np.zeros(count + 1, np.int32)
    np.cumsum(np.bincount(at, minlength=count), out=offsets[1:])
    return pa.ListArray.from_arrays(pa.array(offsets), entries.take(pa.array(order)))


def _entries(finding: Finding, type_: pa.StructType) -> pa.StructArray:
    count = len(finding.rows)
    return pa.StructArray.from_arrays(
        [
            pa.repeat(pa.scalar(finding.reason, pa.string()), count),
            _numbers(finding.values, count),
            pa.repeat(pa.scalar(finding.threshold, pa.float64()), count),
            finding.details if finding.details is not None else pa.nulls(count, pa.string()),
        ],
        fields=list(type_),
    )


def _numbers(values: npt.NDArray[np.floating] | None, count: int) -> pa.Array:
    if values is None:
        return pa.nulls(count, pa.float64())
    return pa.array(values.astype(np.float64), from_pandas=True)


STAGE = Stage(
    name="filter",
    group="verdicts",
    version=1,
    reads={
        "samples": ("nsfw_level", "author"),
        "images": ("status", "width", "height"),
        "prompts": ("status", "complex_prompt", "language"),
        "clip": ("simple_prompt", "cos_simple", "cos_complex", "itm", "aesthetic", "nsfw"),
        "duplicates": ("kind", "similarity", "cluster"),
    },
    schema=VERDICTS,
    params=FilterParams,
    open=open_,
    scope="table",
    by_hand=True,
    batch_rows=10_000,
)
