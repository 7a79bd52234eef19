import cv2
import numpy as np
import pytest

from surd.demo.painter import COLOR_RGB, paint, plan, shape_outline
from surd.demo.scenes import ACTIONS, COLORS, SHAPES, Scene, all_pairs, all_scenes

SCENE = Scene(3, "green", "star", "ring", "rolling")


def test_a_picture_is_rgb_bytes_of_the_size_asked_for():
    picture = paint(SCENE, seed=1, size_px=48)
    assert picture.shape == (48, 48, 3)
    assert picture.dtype == np.uint8


def test_the_same_scene_seed_and_size_give_the_same_bytes():
    assert (paint(SCENE, seed=5) == paint(SCENE, seed=5)).all()


@pytest.mark.parametrize("other", [SCENE, Scene(3, "green", "star", "ring", "still")])
def test_another_seed_or_scene_gives_another_picture(other):
    assert (paint(SCENE, seed=5, size_px=48) != paint(other, seed=6, size_px=48)).any()


@pytest.mark.parametrize("size_px", [32, 48])
def test_a_small_picture_is_the_large_one_seen_from_afar(size_px):
    for scene in all_scenes()[::97]:
        small = paint(scene, seed=2, size_px=size_px).astype(float)
        large = paint(scene, seed=2, size_px=8 * size_px)
        reduced = cv2.resize(large, (size_px, size_px), interpolation=cv2.INTER_AREA)
        assert np.abs(small - reduced).mean() < 2.5


def test_things_and_marks_stay_inside_and_things_stay_apart():
    for seed, scene in enumerate(all_scenes()):
        drawn = plan(scene, seed=seed)
        for points in drawn.strokes:
            assert points.min() >= 0
            assert points.max() <= 1
        (things,) = drawn.groups
        assert len(things.centers) == scene.count
        assert things.centers.min() > 0.55 * things.diameter
        assert things.centers.max() < 1 - 0.55 * things.diameter
        between = np.linalg.norm(things.centers[:, None] - things.centers[None], axis=2)
        assert (between[~np.eye(scene.count, dtype=bool)] > 1.2 * things.diameter).all()


def test_the_groups_of_a_pair_stay_in_their_halves_and_inside():
    for seed, pair in enumerate(all_pairs("test")[::7]):
        left, right = plan(pair, seed=seed).groups
        for things, low, high in ((left, 0, 0.5), (right, 0.5, 1)):
            reach = 0.55 * things.diameter
            assert low < things.centers[:, 0].min() - reach
            assert things.centers[:, 0].max() + reach < high
            assert things.centers[:, 1].min() - reach > 0
            assert things.centers[:, 1].max() + reach < 1


def test_backgrounds_are_light_and_marks_are_dark_and_neither_is_near_a_color():
    saturation = {name: max(rgb) - min(rgb) for name, rgb in COLOR_RGB.items()}
    for seed in range(300):
        drawn = plan(SCENE, seed=seed)
        for tint in (drawn.background.inner_rgb, drawn.background.outer_rgb):
            assert min(tint) > 200
            assert max(tint) - min(tint) < 0.2 * min(saturation.values())
        assert max(drawn.ink_rgb) < 110
        assert max(drawn.ink_rgb) - min(drawn.ink_rgb) < 0.2 * min(saturation.values())


def test_every_color_and_shape_can_be_drawn_and_an_unknown_shape_is_named():
    assert tuple(COLOR_RGB) == COLORS
    for shape in SHAPES:
        assert 0.9 < np.ptp(shape_outline(shape), axis=0).max() * 1.1 < 1.35
    with pytest.raises(ValueError, match="'hexagon'"):
        shape_outline("hexagon")


@pytest.mark.parametrize("action", ACTIONS)
def test_only_things_at_rest_have_no_marks(action):
    assert bool(plan(Scene(4, "red", "circle", "row", action), seed=0).strokes) == (
        action != "still"
    )
