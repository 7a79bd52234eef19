"""Candidates: all captions that a source has, and what is stored of a model's."""

from __future__ import annotations

import pyarrow as pa
import pytest

from surd.stages.base import Batch
from surd.stages.caption import STAGE, CaptionParams, open_
from surd.store.schema import CAPTIONS, SAMPLES

GIVEN = SAMPLES.field("captions").type


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
    rows = batch(simple_prompt=[simple], captions=pa.array([captions], GIVEN))
    (table,) = open_(CaptionParams(device="cpu"))([rows])
    (found,) = table["candidates"].to_pylist()
    assert [c["text"] for c in found] == texts
    assert {c["how"] for c in found} <= {"given"}


def test_parts_of_earlier_versions_have_no_column_of_captions() -> None:
    (table,) = open_(CaptionParams(device="cpu"))([batch(simple_prompt=["a cup"])])
    assert [c["text"] for c in table["candidates"].to_pylist()[0]] == ["a cup"]


@pytest.mark.parametrize("version", [2, 3, 4])
@pytest.mark.parametrize(
    ("clean", "texts"),
    [
        (True, ["two dogs two dogs", "a dog and a dog", "a dog", "a dog's bowl", "A cup"]),
        (False, ["two dogs two dogs", "a dog", "dogs", "a dog ' s bowl", '"A cup."']),
    ],
)
def test_captions_of_versions_before_are_cleaned_again_from_what_the_model_said(
    version: int, clean: bool, texts: list[str]
) -> None:
    candidates = [
        {"text": "two dogs two dogs", "raw": "two dogs two dogs", "how": "given"},
        {"text": "a dog", "raw": "a dog and a dog", "how": "beam"},
        {"text": "dogs", "raw": "a dog dog", "how": "nucleus"},
        {"text": "a dog ' s bowl", "raw": "a dog ' s bowl", "how": "nucleus"},
        {"text": '"A cup."', "raw": '"A cup."', "how": "nucleus"},
    ]
    rows = pa.Table.from_pylist(
        [{"id": "0" * 32, "status": "ok", "candidates": candidates}], schema=CAPTIONS
    )
    upgraded = STAGE.upgrades[version](rows, CaptionParams(clean=clean))
    assert upgraded.schema == CAPTIONS
    assert [c["text"] for c in upgraded["candidates"].to_pylist()[0]] == texts
