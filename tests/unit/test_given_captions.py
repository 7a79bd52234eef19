"""Captions that a source has: all of them are candidates."""

from __future__ import annotations

import pyarrow as pa
import pytest

from surd.stages.base import Batch
from surd.stages.caption import CaptionParams, open_
from surd.store.schema import SAMPLES

CAPTIONS = SAMPLES.field("captions").type


def batch(**columns: object) -> Batch:
    return Batch(pa.table({"id": ["0" * 32], "bytes": pa.array([None], pa.binary()), **columns}))


@pytest.mark.parametrize(
    ("simple", "captions", "texts"),
    [
        ("a cup", ["mug ", "a cup", "beaker"], ["a cup", "mug", "beaker"]),
        ("a cup", None, ["a cup"]),
        (None, ["mug"], ["mug"]),
        (None, None, []),
    ],
)
def test_every_caption_of_the_source_is_a_candidate(
    simple: str | None, captions: list[str] | None, texts: list[str]
) -> None:
    rows = batch(simple_prompt=[simple], captions=pa.array([captions], CAPTIONS))
    (table,) = open_(CaptionParams(device="cpu"))([rows])
    (found,) = table["candidates"].to_pylist()
    assert [c["text"] for c in found] == texts
    assert {c["how"] for c in found} <= {"given"}


def test_parts_of_earlier_versions_have_no_column_of_captions() -> None:
    (table,) = open_(CaptionParams(device="cpu"))([batch(simple_prompt=["a cup"])])
    assert [c["text"] for c in table["candidates"].to_pylist()[0]] == ["a cup"]
