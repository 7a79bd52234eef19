from itertools import combinations

import pytest

from surd.demo.scenes import (
    ATTRIBUTES,
    PAIR_COUNTS,
    Reading,
    Scene,
    all_pairs,
    all_scenes,
    matches,
    split_of,
)


def test_there_are_3840_different_scenes_in_a_fixed_order():
    scenes = all_scenes()
    assert len(set(scenes)) == len(scenes) == 3840
    assert scenes[0] == Scene(1, "red", "circle", "single", "still")
    assert scenes[-1] == Scene(4, "pink", "diamond", "ring", "bouncing")


def test_one_thing_is_single_and_a_ring_needs_three():
    assert {s.arrangement for s in all_scenes() if s.count == 1} == {"single"}
    assert {s.arrangement for s in all_scenes() if s.count == 2} == {"row", "column", "diagonal"}
    with pytest.raises(ValueError, match=r"arrangement is 'ring' \(count 2\); choose one of"):
        Scene(2, "red", "star", "ring", "still")


def test_held_out_triples_are_never_in_train():
    seen: dict[str, set[tuple[int, str, str]]] = {
        "train": set(),
        "validation": set(),
        "test": set(),
    }
    for scene in all_scenes():
        seen[split_of(scene)].add((scene.count, scene.color, scene.shape))
    assert {split: len(triples) for split, triples in seen.items()} == {
        "train": 117,
        "validation": 22,
        "test": 117,
    }
    assert not seen["train"] & (seen["test"] | seen["validation"])
    assert not seen["test"] & seen["validation"]


@pytest.mark.parametrize("pair", list(combinations(ATTRIBUTES, 2)), ids="-".join)
def test_every_pair_of_values_is_seen_in_train(pair):
    def pairs(scenes):
        return {tuple(getattr(scene, name) for name in pair) for scene in scenes}

    assert pairs(s for s in all_scenes() if split_of(s) == "train") == pairs(all_scenes())


def test_every_value_is_asked_for_in_the_test_split():
    test = [scene for scene in all_scenes() if split_of(scene) == "test"]
    for name in ATTRIBUTES:
        assert {getattr(s, name) for s in test} == {getattr(s, name) for s in all_scenes()}


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_both_groups_of_a_pair_are_of_its_split_and_differ(split):
    pairs = all_pairs(split)
    assert len(set(pairs)) == len(pairs) > 90
    for pair in pairs:
        assert split_of(pair.left) == split_of(pair.right) == split
        assert pair.left.color != pair.right.color and pair.left.shape != pair.right.shape
        assert {pair.left.count, pair.right.count} <= set(PAIR_COUNTS)


def test_a_reading_matches_on_the_attributes_asked_for_and_none_never_matches():
    scene = Scene(3, "blue", "heart", "row", "falling")
    reading = Reading(3, "blue", "heart", "column", None)
    assert matches(reading, scene)
    assert not matches(reading, scene, ("arrangement",))
    assert not matches(reading, scene, ("action",))
    assert matches(scene, scene, ATTRIBUTES)
