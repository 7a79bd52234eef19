"""What chat models say around their answers."""

from __future__ import annotations

import pytest

from surd.text.caption_cleaning import clean_caption
from surd.text.chat_answers import unwrapped, without_thoughts


@pytest.mark.parametrize(
    "said",
    [
        "A red cup.", "```\nA red cup.\n```", "```text\nA red cup.\n```", "``` A red cup. ```",
        '```json\n{"caption": "A red cup."}\n```', '{"description": "A red cup.", "score": 1}',
        '"A red cup."', "\u201cA red cup.\u201d", "**A red cup.**", "Caption: A red cup.",
        "**Caption:** A red cup.", 'Image description:\n"A red cup."', '``` {"a": "A red cup."}',
    ],
)  # fmt: skip
def test_what_an_answer_is_wrapped_in_is_taken_off(said: str) -> None:
    assert unwrapped(said) == "A red cup."
    assert clean_caption(said) == "A red cup"


@pytest.mark.parametrize(
    "said",
    [
        'A sign says "Go".', '"Go" and "Stop"', "{a red cup}", '{"a": "b", "c": "d"}', "{", "",
        "A caption: none", "**Red** and **blue**", "the code ``` in it", '["a"]', '{"a": 1}',
    ],
)  # fmt: skip
def test_what_is_no_wrapping_stays(said: str) -> None:
    assert unwrapped(said) == said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("<think>\nhm\n</think>\n\n A cat. ", "A cat."), ("hm </think> A cat.", "A cat."),
        ("<think> A cat. It", ""), ("A cat.", "A cat."), ("<think></think>", ""),
    ],
)  # fmt: skip
def test_thoughts_are_no_answer(text: str, said: str) -> None:
    assert without_thoughts(text) == said


def test_what_is_too_long_for_an_answer_stays_as_it_is() -> None:
    said = "caption: " * 200_000 + "there is a cup"
    assert unwrapped(said) == clean_caption(said) == said


def test_a_long_word_with_hyphens_is_no_work() -> None:
    said = "a-" * 4_000 + "cup cup"  # took half a minute
    assert clean_caption(said) == "a-" * 4_000 + "cup"
