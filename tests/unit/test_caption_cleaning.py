"""BLIP's tics, taken out."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from surd.demo.reading import read_sentence
from surd.demo.scenes import Reading, all_scenes
from surd.demo.sentences import simple_sentence
from surd.text.caption_cleaning import clean_caption


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("there is a araffe dog dog on a a lawn", "a dog on a lawn"),
        ("arafed image of a cat", "image of a cat"),
        ("an arafed house by the sea", "a house by the sea"),
        ("a araffed owl", "an owl"),
        ("a red and a red and a red car", "a red car"),
        ("there are two red cups on a table", "two red cups on a table"),
        ("a hotel, a hotel, a hotel", "a hotel"),
        ("this is a photo of a man", "a photo of a man"),
        ("there's a bird", "a bird"),
        ("a theresa of avila", "a theresa of avila"),
        ("an hour glass and a university", "an hour glass and a university"),
        ("  two\tcups \n ", "two cups"),
        ("a dog and a dog on a lawn", "a dog and a dog on a lawn"),
        ("a dog dog and a dog dog", "a dog and a dog"),
        ("an araffe dog and an araffe dog", "a dog and a dog"),
        ("A red dog and a red dog and a cat", "A red dog and a red dog and a cat"),
        ("a dog, a dog and a dog running", "a dog, a dog and a dog running"),
        ("two cups and two cups, on a table", "two cups and two cups, on a table"),
        ("a man with a beard and a beard sit", "a man with a beard and a beard sit"),
        ("a cat a cat a cat", "a cat"),
        ("a cat a cat and a cat a cat", "a cat and a cat"),
        ("a cat and a cat and a cat and a cat and a cat", "a cat"),
        ("a black and a black cat", "a black cat"),
        ("red and red cups and the cup and the cup", "red cups and the cup"),
        (
            "there is a man in a t - shirt holding a kitten ' s toy",
            "a man in a t-shirt holding a kitten's toy",
        ),
        ("three of them : a cat , a dog and a cow .", "three of them: a cat, a dog and a cow"),
        ("the dogs ' bowl", "the dogs ' bowl"),
        ("A man - smiling - by the sea", "A man - smiling - by the sea"),
        ("arafed", ""),
        ("", ""),
    ],
)
def test_captions_are_cleaned(raw, clean):
    assert clean_caption(raw) == clean


@given(
    st.text(alphabet="ab ,.", max_size=60)
    | st.lists(st.sampled_from(["a", "dog", "dog,", "and", "red", "on"])).map(" ".join)
)
def test_cleaning_twice_changes_nothing_more(raw):
    once = clean_caption(raw)
    assert clean_caption(once) == once


def test_what_a_sentence_says_survives():
    for seed, scene in enumerate(all_scenes()[::7]):
        text = simple_sentence(scene, seed=seed)
        assert read_sentence(clean_caption(text)) == Reading(**vars(scene)), text
