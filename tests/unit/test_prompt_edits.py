"""Edits of many prompts: what they make of a text, and that doing them twice is doing them once."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.text.prompt_edits import (
    replaced,
    tags,
    with_prefix,
    with_suffix,
    with_tag_renamed,
    with_trigger,
    with_word_replaced,
    without_tag,
)


@pytest.mark.parametrize(
    ("change", "words", "text", "expected"),
    [
        (with_prefix, ("a photo of",), "a cat", "a photo of a cat"),
        (with_prefix, ("sks, ",), "a cat", "sks, a cat"),
        (with_prefix, ("A photo of",), "a photo of a cat", "a photo of a cat"),
        (with_suffix, (", best quality",), "a cat", "a cat, best quality"),
        (with_suffix, ("in oil",), "a cat", "a cat in oil"),
        (with_trigger, ("sks",), "a cat", "sks, a cat"),
        (with_trigger, ("sks",), "a cat, SKS", "a cat, SKS"),
        (with_trigger, ("sks",), "risks, a cat", "sks, risks, a cat"),
        (replaced, ("cat", "dog"), "a cat and a cat", "a dog and a dog"),
        (replaced, ("cat", "black cat"), "a cat, a black cat", "a black cat, a black cat"),
        (replaced, ("cat", "black cat"), "a black cat", "a black cat"),
        (replaced, ("Cat", "dog"), "a cat", "a cat"),
        (replaced, ("cat", "dog"), "a category", "a dogegory"),
        (with_word_replaced, ("cat", "dog"), "cat, category, cat's", "dog, category, dog's"),
        (with_word_replaced, ("cat", "dog"), "a cat_ear and a tomcat", "a cat_ear and a tomcat"),
        (
            with_word_replaced,
            ("a cat", "a black cat"),
            "a cat, a black cat",
            "a black cat, a black cat",
        ),
        (
            with_word_replaced,
            ("cat", "black cat"),
            "a cat, a black cat",
            "a black cat, a black cat",
        ),
        (with_word_replaced, ("cat", "category"), "a cat, a category", "a category, a category"),
        (with_word_replaced, ("c++", r"\1"), "in c++", r"in \1"),
        (with_word_replaced, ("Cat", "dog"), "a cat", "a cat"),
        (with_tag_renamed, ("1girl", "a girl"), "1Girl, solo, a girl", "a girl, solo"),
        (with_tag_renamed, ("girl", "woman"), "1girl, solo", "1girl, solo"),
        (without_tag, ("solo",), "1girl,solo , red", "1girl, red"),
        (without_tag, ("solo",), "1girl,solo player", "1girl,solo player"),
    ],
)
def test_a_text_is_changed_as_asked(
    change: Callable[..., str], words: tuple[str, ...], text: str, expected: str
) -> None:
    assert change(text, *words) == expected


_TEXTS = st.text("ab ,.A", max_size=12).map(lambda text: " ".join(text.split()))
_WORDS = st.text("ab,A", min_size=1, max_size=4).filter(lambda text: text.strip(", "))


@given(_TEXTS, _WORDS)
@pytest.mark.parametrize("change", [with_prefix, with_suffix, with_trigger, without_tag])
def test_doing_it_twice_is_doing_it_once(
    change: Callable[[str, str], str], text: str, word: str
) -> None:
    once = change(text, word)
    assert change(once, word) == once


def test_tags_stand_between_commas_each_once() -> None:
    assert tags(" 1girl, red  hair,, solo ,1girl") == ["1girl", "red  hair", "solo"]
