import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surd.demo import vocabulary
from surd.demo.scenes import ATTRIBUTES, Reading, all_scenes, matches
from surd.demo.vocabulary import (
    ACTION_WORDS,
    ARRANGEMENT_TAGS,
    ARRANGEMENT_WORDS,
    COLOR_WORDS,
    COUNT_WORDS,
    SHAPE_WORDS,
    complex_prompt,
    negative_prompt,
    read_sentence,
    simple_sentence,
)

SCENES = st.sampled_from(all_scenes())
SEEDS = st.integers(0, 10**6)
TABLES = (COUNT_WORDS, COLOR_WORDS, SHAPE_WORDS, ARRANGEMENT_WORDS, ACTION_WORDS)


@settings(max_examples=400)
@given(scene=SCENES, seed=SEEDS, words=st.sampled_from(["train", "heldout", "all"]))
def test_every_sentence_reads_back_to_its_scene(scene, seed, words):
    assert matches(read_sentence(simple_sentence(scene, seed=seed, words=words)), scene, ATTRIBUTES)


@settings(max_examples=200)
@given(scene=SCENES, seed=SEEDS)
def test_every_complex_prompt_has_every_attribute_as_a_tag(scene, seed):
    tags = re.sub(r"<[^>]*>|:[\d.]+|BREAK|[()\[\]{}]", ",", complex_prompt(scene, seed=seed))
    words = re.findall(r"\w+", tags)
    expected = {str(scene.count), scene.color, scene.shape, scene.action}
    assert expected | {ARRANGEMENT_TAGS[scene.arrangement]} <= set(words)
    assert re.search(rf"\b{scene.count} ({scene.color} )?{scene.shape}\b", tags)
    assert len(words) <= 32


def test_noise_tags_say_nothing_about_a_scene():
    tag_words = {value for scene in all_scenes() for value in map(str, vars(scene).values())}
    noise = vocabulary.QUALITY_TAGS + vocabulary.STYLE_TAGS
    assert not tag_words & set(re.findall(r"\w+", " ".join(noise)))
    assert read_sentence(" ".join(noise)) == Reading()


@pytest.mark.parametrize("table", TABLES)
def test_every_value_has_words_to_train_on_and_others_held_out(table):
    for words in table.values():
        assert words.train
        assert words.heldout
        assert not set(words.train) & set(words.heldout)


def test_no_phrase_means_two_things():
    phrases = [phrase for table in TABLES for words in table.values() for phrase in words.of("all")]
    assert len(phrases) == len(set(phrases))


def test_training_sentences_have_no_held_out_synonym():
    heldout = [phrase for table in TABLES for words in table.values() for phrase in words.heldout]
    heldout_phrase = re.compile(r"\b(" + "|".join(map(re.escape, heldout)) + r")s?\b")
    for seed, scene in enumerate(all_scenes()):
        assert not heldout_phrase.search(simple_sentence(scene, seed=seed).lower())


def test_both_ways_of_speaking_are_the_same_for_the_same_seed_and_varied_between_seeds():
    scene = all_scenes()[500]
    for speak in (complex_prompt, simple_sentence):
        assert speak(scene, seed=3) == speak(scene, seed=3)
        assert len({speak(scene, seed=seed) for seed in range(300)}) > 200
    assert len({negative_prompt(seed) for seed in range(100)}) > 60


def test_prompts_look_like_those_of_users():
    prompts = " ".join(complex_prompt(scene, seed=7) for scene in all_scenes())
    for mark in ("<lora:", "BREAK", "((", "[", "{", ":1.3)", "masterpiece"):
        assert mark in prompts


@pytest.mark.parametrize(
    ("text", "reading"),
    [
        ("two red circles", Reading(2, "red", "circle")),
        ("Trio of teal valentines, in a loop.", Reading(None, "cyan", "heart", "ring")),
        ("an emerald box", Reading(1, "green", "square", "single")),
        ("a drawing of purple stars in a row", Reading(None, "purple", "star", "row")),
        ("three discs, one above the other", Reading(3, None, "circle", "column")),
        ("a red star and a blue star", Reading(1, None, "star", "single")),
        ("4 hearts rolling", Reading(4, None, "heart", None, "rolling")),
        ("the quick brown fox", Reading()),
        ("", Reading()),
    ],
)
def test_sentences_of_others_are_read_as_far_as_they_go(text, reading):
    assert read_sentence(text) == reading
