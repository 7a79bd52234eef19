import io
from collections import Counter

import cv2
import numpy as np
import pytest
from PIL import Image

from surd.demo.judge import judge, matches, read_pair
from surd.demo.scenes import ATTRIBUTES, Pair, split_of
from surd.demo.tags import complex_prompt
from surd.demo.world import world


@pytest.fixture(scope="module")
def entries():
    return world(200, seed=1, size_px=128)


def pixels(entry):
    return np.array(Image.open(io.BytesIO(entry.picture)).convert("RGB"))


def test_the_shares_of_each_kind_are_exact(entries):
    assert Counter(entry.kind for entry in entries) == {
        "true": 158,
        "contradiction": 30,
        "duplicate": 6,
        "near_duplicate": 6,
    }


def test_pictures_show_the_scene_and_prompts_speak_of_what_is_said(entries):
    for entry in entries:
        if isinstance(entry.scene, Pair):
            assert read_pair(pixels(entry)) == entry.scene
        else:
            assert matches(judge(pixels(entry)), entry.scene, ATTRIBUTES)
        assert entry.prompt == complex_prompt(entry.said, seed=entry.seed)
        assert (entry.said != entry.scene) == (entry.kind == "contradiction")


def test_bytes_are_of_the_format_and_size_they_claim(entries):
    for entry in entries:
        image = Image.open(io.BytesIO(entry.picture))
        assert (image.get_format_mimetype(), image.size) == (
            entry.mime,
            (entry.width, entry.height),
        )
        assert entry.settings["Size"] == f"{entry.width}x{entry.height}"
    assert {entry.mime for entry in entries} == {"image/jpeg", "image/png", "image/webp"}
    assert any(entry.width > entry.height for entry in entries)
    assert any(entry.width < entry.height for entry in entries)


def test_repeats_name_an_earlier_entry_and_show_the_same(entries):
    for index, entry in enumerate(entries):
        if entry.original is None:
            assert entry.kind in ("true", "contradiction")
            continue
        first = entries[entry.original]
        assert entry.original < index
        assert (first.kind, first.scene) == ("true", entry.scene)
        assert (entry.picture == first.picture) == (entry.kind == "duplicate")
        again = cv2.resize(pixels(entry), (first.width, first.height)).astype(float)
        assert np.abs(again - pixels(first)).mean() < 10


def test_originals_are_all_different_bytes(entries):
    originals = [entry.picture for entry in entries if entry.original is None]
    assert len(set(originals)) == len(originals)


def test_the_site_is_the_same_for_the_same_seed_and_another_for_another_seed():
    assert world(30, seed=2, size_px=64) == world(30, seed=2, size_px=64)
    assert world(30, seed=2, size_px=64) != world(30, seed=3, size_px=64)


def test_nothing_of_the_held_out_splits_is_shown_or_said_unless_asked_for(entries):
    assert splits_in(entries) == {"train"}
    assert splits_in(world(40, size_px=64, splits=("test",))) == {"test"}
    assert splits_in(world(40, size_px=64, splits=("test", "validation"))) == {"test", "validation"}


def splits_in(entries):
    told = [scene for entry in entries for scene in (entry.scene, entry.said)]
    groups = [g for s in told for g in ((s.left, s.right) if isinstance(s, Pair) else (s,))]
    return {split_of(group) for group in groups}


def test_a_fifth_of_the_pictures_shows_two_groups(entries):
    pairs = [entry for entry in entries if isinstance(entry.scene, Pair)]
    assert 0.1 < len(pairs) / len(entries) < 0.3
    assert {type(entry.said) for entry in pairs} == {Pair}


def test_most_entries_are_safe_and_some_are_not(entries):
    levels = Counter(entry.nsfw_level for entry in entries)
    assert levels["None"] > 150
    assert set(levels) <= {"None", "Soft", "Mature", "X"}
    assert len(levels) > 2


@pytest.mark.parametrize("count", [0, 1, 2, 7])
def test_a_site_may_be_tiny(count):
    assert len(world(count, size_px=64)) == count
