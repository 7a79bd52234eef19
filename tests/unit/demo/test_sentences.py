import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from surd.demo.reading import read_pair_sentence, read_sentence
from surd.demo.scenes import ATTRIBUTES, Reading, all_pairs, all_scenes, matches
from surd.demo.sentences import MANNERS, can_say, simple_sentence
from surd.demo.tags import (
    ARRANGEMENT_TAGS,
    QUALITY_TAGS,
    STYLE_TAGS,
    complex_prompt,
    negative_prompt,
)
from surd.demo.words import (
    ACTION_WORDS,
    ARRANGEMENT_WORDS,
    COLOR_WORDS,
    CONTRASTS,
    COUNT_WORDS,
    KNOWLEDGE,
    OBJECTS,
    OPENINGS,
    ORDERED_PAIRS,
    PAIRS,
    SENTENCES,
    SENTENCES_FOR_MANY,
    SHAPE_WORDS,
    UNHEARD_COLORS,
    UNHEARD_SHAPES,
)

SCENES = st.sampled_from(all_scenes())
PAIRS_OF_ALL = st.sampled_from(all_pairs("train") + all_pairs("validation") + all_pairs("test"))
SEEDS = st.integers(0, 10**6)
SETS = st.sampled_from(["train", "validation", "test", "all"])
PLAIN = (COUNT_WORDS, COLOR_WORDS, SHAPE_WORDS, ARRANGEMENT_WORDS, ACTION_WORDS)
TABLES = (*PLAIN, UNHEARD_COLORS, UNHEARD_SHAPES, OBJECTS)
TEMPLATES = (
    SENTENCES, SENTENCES_FOR_MANY, KNOWLEDGE, OPENINGS, CONTRASTS, PAIRS, ORDERED_PAIRS
)  # fmt: skip


@settings(max_examples=400)
@given(scene=SCENES, seed=SEEDS, words=SETS, manner=st.sampled_from([None, *MANNERS]))
def test_every_sentence_reads_back_to_its_scene(scene, seed, words, manner):
    if manner is None or can_say(scene, manner):
        text = simple_sentence(scene, seed=seed, words=words, manner=manner)
        assert matches(read_sentence(text), scene, ATTRIBUTES)


@settings(max_examples=200)
@given(pair=PAIRS_OF_ALL, seed=SEEDS, words=SETS, ordered=st.booleans())
def test_every_sentence_of_a_pair_reads_back_to_it(pair, seed, words, ordered):
    text = simple_sentence(pair, seed=seed, words=words, ordered=ordered)
    read = read_pair_sentence(text)
    assert read is not None and read[1] == ordered
    assert read[0] == pair if ordered else read[0].groups == pair.groups


@settings(max_examples=200)
@given(scene=SCENES, seed=SEEDS)
def test_a_sentence_of_one_group_is_not_one_of_a_pair(scene, seed):
    assert read_pair_sentence(simple_sentence(scene, seed=seed, words="all")) is None


@settings(max_examples=200)
@given(scene=SCENES, seed=SEEDS)
def test_every_complex_prompt_has_every_attribute_as_a_tag(scene, seed):
    tags = re.sub(r"<[^>]*>|:[\d.]+|BREAK|[()\[\]{}]", ",", complex_prompt(scene, seed=seed))
    words = re.findall(r"\w+", tags)
    expected = {str(scene.count), scene.color, scene.shape, scene.action}
    assert expected | {ARRANGEMENT_TAGS[scene.arrangement]} <= set(words)
    assert re.search(rf"\b{scene.count} ({scene.color} )?{scene.shape}\b", tags)
    assert len(words) <= 32


@settings(max_examples=100)
@given(pair=PAIRS_OF_ALL, seed=SEEDS)
def test_the_tags_of_a_pair_say_which_group_is_where(pair, seed):
    text = complex_prompt(pair, seed=seed)
    assert f"{pair.left} left" in text and f"{pair.right} right" in text


def test_noise_tags_say_nothing_about_a_scene():
    tag_words = {value for scene in all_scenes() for value in map(str, vars(scene).values())}
    noise = QUALITY_TAGS + STYLE_TAGS
    assert not tag_words & set(re.findall(r"\w+", " ".join(noise)))
    assert read_sentence(" ".join(noise)) == Reading()


@pytest.mark.parametrize("table", TABLES)
def test_every_value_has_words_of_its_own_in_each_set(table):
    for words in table.values():
        assert words.train and words.validation and words.test
        assert len(set(words.of("all"))) == sum(map(len, words))


@pytest.mark.parametrize("templates", TEMPLATES)
def test_every_set_has_templates_of_its_own(templates):
    assert templates.train and templates.validation and templates.test
    assert len(set(templates.of("all"))) == sum(map(len, templates))


def test_no_phrase_means_two_things():
    said = {
        (phrase, value)
        for table in TABLES
        for value, words in table.items()
        for phrase in words.of("all")
    }
    assert len(said) == len({phrase for phrase, _ in said})


def test_training_sentences_have_no_word_of_the_other_sets():
    heldout = [
        phrase
        for table in TABLES
        for words in table.values()
        for phrase in words.validation + words.test
    ]
    heldout_phrase = re.compile(r"\b(" + "|".join(map(re.escape, heldout)) + r")s?\b")
    for seed, scene in enumerate(all_scenes()):
        assert not heldout_phrase.search(simple_sentence(scene, seed=seed).lower())


def test_no_thing_that_is_known_for_its_colour_says_a_word_for_it():
    said = {word for words in COLOR_WORDS.values() for word in words.train}
    for things in OBJECTS.values():
        assert not said & set(" ".join(things.of("all")).lower().split())


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
        ("a moon coloured like a school bus", Reading(1, "yellow", "moon", "single")),
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
