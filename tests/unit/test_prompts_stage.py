"""The prompts stage: from the prompts of the samples to a table of the group."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from support import real_prompts

from surd.stages.base import Batch
from surd.stages.prompts import STAGE, PromptsParams
from surd.store.schema import PROMPTS

Run = Callable[..., list[dict[str, Any]]]


def batch(prompts: list[str | None], settings: str | None = None) -> Batch:
    ids = [f"{index:032x}" for index in range(len(prompts))]
    columns = {"prompt": prompts, "settings": [settings] * len(prompts)}
    return Batch(pa.table({"id": ids} | {k: pa.array(v, pa.string()) for k, v in columns.items()}))


@pytest.fixture(scope="module")
def run() -> Run:
    functions: dict[PromptsParams, Any] = {}

    def run(*prompts: str | None, **params: Any) -> list[dict[str, Any]]:
        key = PromptsParams(**params)
        if key not in functions:
            functions[key] = STAGE.open(key)
        (table,) = functions[key]([batch(list(prompts))])
        table.validate(full=True)
        return list(table.to_pylist())

    return run


def test_a_prompt_becomes_words_networks_weights_language_and_length(run: Run) -> None:
    (row,) = run("(a red cat:1.5) sleeps on the old chair BREAK __light__, <lora:fluffy:0.8>")
    assert row == {
        "id": "0" * 32,
        "status": "ok",
        "complex_prompt": "a red cat sleeps on the old chair",
        "networks": [{"kind": "lora", "name": "fluffy", "weight": pytest.approx(0.8)}],
        "weights": [{"text": "a red cat", "weight": 1.5}],
        "wildcards": ["__light__"],
        "segments": 2,
        "repaired": False,
        "language": "en",
        "token_count": 8,
    }


def test_every_batch_gives_a_table_of_the_schema_with_the_same_ids() -> None:
    batches = [batch(["a cat", None]), batch([]), batch(["a dog"])]
    tables = list(STAGE.open(PromptsParams())(batches))
    assert [table["id"].to_pylist() for table in tables] == [
        given.table["id"].to_pylist() for given in batches
    ]
    assert all(table.schema.equals(PROMPTS, check_metadata=True) for table in tables)


def test_without_a_prompt_everything_is_null(run: Run) -> None:
    (row,) = run(None)
    assert row.pop("status") == "missing"
    assert {value for key, value in row.items() if key != "id"} == {None}


def test_a_prompt_that_is_too_long_is_not_looked_at(run: Run) -> None:
    long, fits = run("a cat, <lora:x:1>!", "a cat", max_chars=10)
    assert long.pop("status") == "too_long"
    assert {value for key, value in long.items() if key != "id"} == {None}
    assert fits["status"] == "ok"


@pytest.mark.parametrize(
    "prompt",
    [
        "\x01\x02a\x03 c",
        "a\ufffd\ufffd\ufffdcup",
        "\ue000\ue001 cup",
        "\x1b[31mcup",
    ],
)
@pytest.mark.parametrize("repair", [True, False])
def test_what_was_no_text_is_no_prompt(run: Run, prompt: str, repair: bool) -> None:
    (row,) = run(prompt, repair=repair)
    assert row.pop("status") == "not_text"
    assert {value for key, value in row.items() if key != "id"} == {None}


@pytest.mark.parametrize("prompt", ["", "  ,\n", "<lora:x:1>", "{a|b}", "...!", "\u200b\u3164\x00"])
def test_without_words_a_prompt_is_empty(run: Run, prompt: str) -> None:
    (row,) = run(prompt)
    assert row["status"] == "empty"
    assert row["complex_prompt"] is None
    assert row["token_count"] is None
    assert row["language"] is None
    assert row["segments"] == 1


def test_networks_of_a_prompt_without_words_are_kept(run: Run) -> None:
    (row,) = run("<lora:x:1>")
    assert row["networks"] == [{"kind": "lora", "name": "x", "weight": 1.0}]


def test_an_emoji_is_words(run: Run) -> None:
    (row,) = run("😀")
    assert row["status"] == "ok"


@pytest.mark.parametrize(
    ("prompt", "words", "repaired"),
    [
        ("a cafÃ© in Paris", "a café in Paris", True),
        ("itâ€™s raining", "it’s raining", True),
        ("a cat\nvoilÃ\xa0 une maison", "a cat, voilà une maison", True),
        ("a \x93red\x94 cat", "a “red” cat", True),
        ("cafe\u0301", "café", False),
        ("black &amp; white &lt;lora:x:1&gt;", "black & white", False),
        ("<lora:x:1> black &amp; white", "black & white", False),
        ("“curly” ‘quotes’ it’s", "“curly” ‘quotes’ it’s", False),
        ("ﬁne Ｗide （not：1.2） 10³ …", "ﬁne Ｗide （not：1.2） 10³ …", False),
        ("R&D & b&w", "R&D & b&w", False),
    ],
)
def test_mojibake_and_entities_are_repaired_and_the_authors_characters_stay(
    run: Run, prompt: str, words: str, repaired: bool
) -> None:
    (row,) = run(prompt)
    assert row["complex_prompt"] == words
    assert row["repaired"] is repaired


def test_repair_can_be_turned_off(run: Run) -> None:
    (row,) = run("cafÃ© &amp; cafe\u0301\x00", repair=False)
    assert row["complex_prompt"] == "cafÃ© &amp; cafe\u0301"
    assert row["repaired"] is False


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("a\x00 c\x07at and a wet dog\x7f\x81", "a cat and a wet dog"),
        ("a\u202ecat\u202c \u2066dog\u2069\u200e", "acat dog"),
        ("a\u200bb\ufeff\u00ad\u2060 c\u200dd\u200c", "ab cd"),
        ("<lo\u200bra:x:1>cat", "cat"),
        ("a cat\u2028a dog\fa fox\va hen\ra cow", "a cat, a dog, a fox, a hen, a cow"),
        ("hidden\U000e0061\U000e0062", "hidden"),
        ("👨\u200d👩\u200d👧 🏳️\u200d🌈 👩🏽\u200d🚀", "👨\u200d👩\u200d👧 🏳️\u200d🌈 👩🏽\u200d🚀"),
        ("🏴\U000e0067\U000e0062\U000e007f", "🏴\U000e0067\U000e0062\U000e007f"),
        ("می\u200cخواهم", "می\u200cخواهم"),
    ],
)
@pytest.mark.parametrize("repair", [True, False])
def test_characters_that_show_nothing_are_removed(
    run: Run, prompt: str, words: str, repair: bool
) -> None:
    (row,) = run(prompt, repair=repair)
    assert row["complex_prompt"] == words


def test_the_language_is_guessed_from_the_words(run: Run) -> None:
    rows = run(
        "a woman walks through the old town in the rain",
        "eine alte Frau geht im Regen durch die Stadt",
        "雨の中を歩く女性、美しい街並み",
        "8k, 4x, 1",
    )
    assert [row["language"] for row in rows] == ["en", "de", "ja", None]


def test_the_language_can_be_left_out(run: Run) -> None:
    (row,) = run("a woman walks through the old town", language=False)
    assert row["language"] is None
    assert row["token_count"] == 7


def test_more_segments_than_the_schema_can_hold_are_cut_to_its_largest_number(run: Run) -> None:
    (row,) = run("a BREAK " * 40_000, max_chars=10**6, language=False)
    assert row["segments"] == 32_767


@pytest.mark.parametrize("params", [{"max_chars": 0}, {"max_char": 5}])
def test_parameters_that_make_no_sense_are_refused(params: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        PromptsParams(**params)


def test_the_stage_reads_the_prompt_and_who_wrote_it() -> None:
    assert STAGE.reads == {"samples": ("prompt", "settings")}
    assert STAGE.schema is PROMPTS
    written = "man, 1.3::laughing::, hat (red)"
    for settings, words in (
        (json.dumps({"generator": "NovelAI", "raw": {}}), "man, laughing, hat (red)"),
        (json.dumps({"generator": "AUTOMATIC1111"}), "man, 1.3::laughing::, hat red"),
        (json.dumps({"generator": ["NovelAI"]}), "man, 1.3::laughing::, hat red"),
        ('{"generator": broken', "man, 1.3::laughing::, hat red"),
    ):
        (table,) = STAGE.open(PromptsParams(language=False))([batch([written], settings)])
        assert table["complex_prompt"].to_pylist() == [words]


FORBIDDEN = {
    *range(0x20),
    *range(0x7F, 0xA0),
    *range(0x202A, 0x202F),
    *range(0x2066, 0x206A),
    0xFEFF,
}


@given(st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"])), max_size=5))
def test_any_prompts_give_as_many_sound_rows(run: Run, prompts: list[str | None]) -> None:
    rows = run(*prompts)
    assert len(rows) == len(prompts)
    for row in rows:
        words = row["complex_prompt"]
        assert (row["status"] == "ok") == (words is not None) == (row["token_count"] is not None)
        if words is not None:
            assert not FORBIDDEN & {ord(char) for char in words}
            assert unicodedata.is_normalized("NFC", words)


def test_real_prompts_are_all_ok_and_nearly_all_english(run: Run) -> None:
    rows = run(*real_prompts())
    assert {row["status"] for row in rows} == {"ok", "missing"}
    ok = [row for row in rows if row["status"] == "ok"]
    assert sum(row["language"] == "en" for row in ok) > 0.95 * len(ok)
    assert all(1 <= row["token_count"] <= len(row["complex_prompt"]) for row in ok)
