"""Fingerprints: what must be computed again, and what need not."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from surd.params import Params, runtime
from surd.recipe.pipeline import STAGES
from surd.stages.base import Batch, Stage, part_fingerprint, settings_fingerprint


class Inner(Params):
    size: int = 1


class Paint(Params):
    colour: str = "red"
    sizes: tuple[int, ...] = (1, 2)
    inner: Inner | None = None
    note: str = Field(default="", description="an ordinary field with a description")
    threads: int = runtime(4, "how many at once", ge=1)
    contact: str | None = runtime(None, "whom to ask")


def unused(params: Any) -> Any:
    def function(batches: Iterable[Batch]) -> Iterator[pa.Table]:
        yield from ()

    return function


STAGE = Stage(
    name="paint",
    group="pictures",
    version=1,
    reads={"samples": ("prompt",)},
    schema=pa.schema([("id", pa.string())]),
    params=Paint,
    open=unused,
)
DIGESTS = st.dictionaries(st.text(max_size=8), st.text(max_size=8), max_size=5)


def of(**params: Any) -> str:
    return settings_fingerprint(STAGE, Paint(**params))


@pytest.mark.parametrize("params", [{"threads": 9}, {"contact": "me"}, {"threads": 1}])
def test_runtime_fields_do_not_change_the_fingerprint(params: dict[str, Any]) -> None:
    assert of(**params) == of()


@pytest.mark.parametrize(
    "params",
    [
        {"colour": "blue"},
        {"colour": ""},
        {"sizes": (2, 1)},
        {"sizes": ()},
        {"inner": {}},
        {"inner": {"size": 2}},
        {"note": "x"},
    ],
)
def test_every_other_field_changes_the_fingerprint(params: dict[str, Any]) -> None:
    assert of(**params) != of()


def test_a_value_given_counts_like_the_same_value_by_default() -> None:
    assert of(colour="red", sizes=[1, 2], inner=None) == of()
    assert of(inner={}) == of(inner={"size": 1})


def test_version_and_name_change_the_fingerprint() -> None:
    versions = [settings_fingerprint(replace(STAGE, version=v), Paint()) for v in (1, 2, 3)]
    names = [settings_fingerprint(replace(STAGE, name=n), Paint()) for n in ("draw", "sketch")]
    assert len({*versions, *names}) == 5


def test_how_a_stage_is_run_does_not_change_the_fingerprint() -> None:
    other = replace(STAGE, workers="one", batch_rows=7, reuses_rows=True)
    assert settings_fingerprint(other, Paint()) == of()


@pytest.mark.parametrize("stage", STAGES, ids=lambda stage: stage.name)
def test_runtime_fields_of_every_stage_of_surd_change_nothing(stage: Stage) -> None:
    default = stage.params()
    for name, field in stage.params.model_fields.items():
        extra = field.json_schema_extra
        if not (isinstance(extra, dict) and extra.get("runtime")):
            continue
        value = getattr(default, name)
        texts = {"contact": "someone@example.org", "device": "cuda:7", "key_variable": "K"}
        other = texts.get(name) or (value or 0) + 1
        changed = stage.params(**{name: other})
        assert changed != default
        assert settings_fingerprint(stage, changed) == settings_fingerprint(stage, default)


def test_params_are_frozen_and_refuse_unknown_fields() -> None:
    with pytest.raises(ValidationError, match="colours"):
        Paint(colours="red")
    with pytest.raises(ValidationError, match="frozen"):
        Paint().colour = "blue"
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        Paint(threads=0)


@given(DIGESTS, st.randoms(use_true_random=False))
@settings(derandomize=True, max_examples=100)
def test_the_order_of_inputs_does_not_matter(inputs: dict[str, str], order: random.Random) -> None:
    pairs = list(inputs.items())
    order.shuffle(pairs)
    assert part_fingerprint("s", dict(pairs)) == part_fingerprint("s", inputs)


@given(DIGESTS, DIGESTS, st.text(max_size=8), st.text(max_size=8))
@settings(derandomize=True, max_examples=100)
def test_fingerprints_are_equal_only_when_settings_and_inputs_are(
    one: dict[str, str], other: dict[str, str], here: str, there: str
) -> None:
    same = (here, one) == (there, other)
    assert (part_fingerprint(here, one) == part_fingerprint(there, other)) is same


def test_fingerprints_do_not_change_from_release_to_release() -> None:
    assert of() == "98041a65495871547e2ddaad12614a69"
    assert part_fingerprint("s", {"samples": "d"}) == "c2af92e78a3accbb7964e5af74998cc6"
