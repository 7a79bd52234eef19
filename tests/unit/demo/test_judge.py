import io

import cv2
import numpy as np
import pytest
from PIL import Image

from surd.demo.judge import Reading, judge, matches, read_pair
from surd.demo.painter import paint
from surd.demo.scenes import ATTRIBUTES, Scene, all_pairs, all_scenes

SCENE = Scene(2, "red", "heart", "row", "bouncing")


def error_rates(size_px, scenes, spoil=lambda picture: picture):
    """Share of wrong readings, by attribute; each scene is painted with a seed of its own."""
    wrong = dict.fromkeys(ATTRIBUTES, 0)
    for seed, scene in enumerate(scenes):
        reading = judge(spoil(paint(scene, seed=seed, size_px=size_px)))
        for name in ATTRIBUTES:
            wrong[name] += not matches(reading, scene, (name,))
    return {name: count / len(scenes) for name, count in wrong.items()}


def as_jpeg(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=85)
    return np.array(Image.open(file))


def as_generated(picture):
    """Blur and noise as of a small diffusion model."""
    rng = np.random.default_rng(int(picture.sum()))
    blurred = cv2.GaussianBlur(picture, (0, 0), 0.7)
    return np.clip(blurred + rng.normal(0, 8, picture.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("size_px", "step"), [(48, 2), (256, 19)])
def test_at_most_one_percent_of_each_attribute_is_misread(size_px, step):
    assert max(error_rates(size_px, all_scenes()[::step]).values()) <= 0.01


@pytest.mark.parametrize("spoil", [as_jpeg, as_generated])
def test_jpeg_blur_and_noise_at_48_pixels_leave_at_most_one_percent_misread(spoil):
    assert max(error_rates(48, all_scenes()[5::17], spoil).values()) <= 0.01


@pytest.mark.parametrize("spoil", [lambda picture: picture, as_jpeg, as_generated])
@pytest.mark.parametrize("size_px", [48, 256])
def test_at_most_one_pair_in_a_hundred_is_misread(size_px, spoil):
    pairs = all_pairs("test")[:: 13 if size_px == 48 else 37]
    read = [read_pair(spoil(paint(p, seed=i, size_px=size_px))) for i, p in enumerate(pairs)]
    assert sum(r != p for r, p in zip(read, pairs, strict=True)) <= 0.01 * len(pairs)


@pytest.mark.parametrize("scene", [SCENE, Scene(4, "red", "heart", "ring", "still")])
def test_a_picture_of_one_group_is_no_pair(scene):
    assert read_pair(paint(scene, seed=2, size_px=48)) is None


def test_32_pixels_are_still_enough_for_a_clean_picture():
    assert max(error_rates(32, all_scenes()[7::17]).values()) <= 0.02


@pytest.mark.parametrize("padding", [((60, 60), (0, 0), (0, 0)), ((0, 0), (60, 60), (0, 0))])
def test_portrait_and_landscape_canvases_are_read_like_square_ones(padding):
    for seed, scene in enumerate(all_scenes()[::120]):
        canvas = np.pad(paint(scene, seed=seed, size_px=240), padding, mode="edge")
        assert matches(judge(canvas), scene, ATTRIBUTES)


@pytest.mark.parametrize("shade", [0, 128, 245, 255])
def test_a_blank_picture_reads_as_nothing(shade):
    blank = np.full((48, 48, 3), shade, np.uint8)
    assert judge(blank) == Reading() and read_pair(blank) is None


def test_noise_reads_as_nothing():
    noise = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    reading = judge(noise)
    assert (reading.count, reading.shape, reading.action) == (None, None, None)


def test_things_of_two_colors_have_no_color():
    left = paint(SCENE, seed=3, size_px=96)
    right = paint(Scene(2, "blue", "heart", "row", "bouncing"), seed=3, size_px=96)
    assert judge(np.hstack([left, right])).color is None


def test_more_than_four_things_have_no_count():
    four = paint(Scene(4, "green", "circle", "row", "still"), seed=1, size_px=96)
    reading = judge(np.vstack([four, four]))
    assert (reading.count, reading.color) == (None, "green")


def test_a_thing_of_no_known_shape_has_no_shape():
    canvas = np.full((48, 48, 3), 240, np.uint8)
    canvas[22:26, 4:44] = (218, 34, 40)
    assert (judge(canvas).count, judge(canvas).color, judge(canvas).shape) == (1, "red", None)
