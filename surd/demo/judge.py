"""Reads a scene from pixels alone: unmixing, connected components, moments, templates.

A picture is taken as background, one colour of things and dark grey marks, mixed by coverage:

    pixel = background + thing * (color - background) + ink * (black - background)

which is solved for `thing` and `ink` at every pixel. Count, colour, shape and arrangement are read
from `thing`, the action from `ink`. No model and nothing of the painter's but its colours and the
outlines of its shapes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from surd.demo.painter import COLOR_RGB, shape_outline
from surd.demo.scenes import COUNTS, PAIR_COUNTS, SHAPES, Group, Pair, Reading, matches

__all__ = ["Reading", "judge", "matches", "read_pair"]

Floats = npt.NDArray[np.float32]

WORK_PX = 144
"""Pictures are brought to this many pixels on their shorter side before they are read."""
LEAST_CHROMA = 22.0
"""CIELAB distance from the background's a and b at which a pixel is surely coloured."""
MOST_COLORED = 0.7
"""Share of coloured pixels above which a picture has no background to speak of."""
LEAST_AGREEMENT = 0.85
"""Share of coloured pixels that must be of one colour for the things to have it."""
LEAST_THING_PX = 60
"""Smallest coloured area that is read at all, in working pixels; a smallest star has 147."""
SOLID = 0.6
"""Coverage from which a pixel belongs to a thing; over a half, so that neighbours stay apart."""
LEAST_THING_SHARE = 0.3
"""A component smaller than this share of the largest one is debris, not a thing."""
LEAST_INK = 0.0015
"""Share of the picture that marks cover at least; less is a speck."""
MOST_OFF_BALANCE = 0.1
"""Farthest distance of spinning's ink from the middle of the things, in sides."""
PATCH_PX = 20
"""Shapes are compared as patches of this many pixels a side."""
LEAST_LIKENESS = 0.85
"""Correlation with the best template below which a thing has none of the shapes."""
PATCH_REACH = 1.15
"""Half the side of a patch, in square roots of the shape's area."""


@dataclass(frozen=True)
class Layers:
    """A picture unmixed: coverage by things and by ink, float32 [h, w], and the things' colour."""

    thing: Floats
    ink: Floats
    color: str | None


@dataclass(frozen=True)
class Things:
    """The separate things: centres [n, 2] and boxes [n, 4] (left, top, right, bottom), x first,
    in working pixels, and their coverage patches [n, PATCH_PX ** 2]."""

    centers: Floats
    boxes: Floats
    patches: Floats


def judge(picture: npt.NDArray[np.uint8]) -> Reading:
    """What a picture, uint8 [h, w, 3] RGB of any size from about 32 pixels, shows."""
    layers = unmix(_working_size(picture))
    if layers is None:
        return Reading()
    things = find_things(layers.thing)
    count = len(things.centers)
    if count not in COUNTS:
        return Reading(color=layers.color)
    return Reading(
        count=count,
        color=layers.color,
        shape=read_shape(things),
        arrangement=read_arrangement(things.centers),
        action=read_action(layers, things),
    )


def read_pair(picture: npt.NDArray[np.uint8]) -> Pair | None:
    """The two groups that a picture, as `judge` takes it, shows side by side; None where one of
    them cannot be read."""
    rgb = _working_size(picture)
    ab = _from_background(rgb)
    chroma = np.linalg.norm(ab, axis=2)
    colored = chroma > LEAST_CHROMA
    if colored.sum() <= LEAST_THING_PX:
        return None
    votes = np.bincount((ab[colored] @ _hues().T).argmax(axis=1), minlength=len(COLOR_RGB))
    chosen = np.argsort(-votes, kind="stable")[:2]
    nearest = chosen[(ab @ _hues()[chosen].T).argmax(axis=2)]  # [h, w]
    groups = []
    for hue in chosen:
        mine = colored & (nearest == hue)
        if mine.sum() <= LEAST_THING_PX:
            return None
        full = float(np.quantile(chroma[mine], 0.7))
        things = find_things((chroma / np.float32(full) * (nearest == hue)).astype(np.float32))
        count = len(things.centers)
        shape = read_shape(things) if count in PAIR_COUNTS else None
        if shape is None:
            return None
        group = Group(count, tuple(COLOR_RGB)[hue], shape)
        groups.append((float(things.centers[:, 0].mean()), group))
    left, right = (group for _, group in sorted(groups))
    return Pair(left, right)


def _from_background(rgb: Floats) -> Floats:
    """CIELAB's a and b [h, w, 2] of a working picture, relative to those of most of it."""
    ab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[..., 1:]
    relative: Floats = ab - np.median(ab[::3, ::3].reshape(-1, 2), axis=0)
    return relative


def _working_size(picture: npt.NDArray[np.uint8]) -> Floats:
    """float32 [h, w, 3] RGB in 0 to 1 with a shorter side of WORK_PX, slightly smoothed."""
    height, width = picture.shape[:2]
    scale = WORK_PX / min(height, width)
    size = (round(width * scale), round(height * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    resized = cv2.resize(picture, size, interpolation=how)
    smooth: Floats = cv2.GaussianBlur(resized, (0, 0), 1.2).astype(np.float32) / np.float32(255)
    return smooth


# Colour


@cache
def _hues() -> Floats:
    """The direction of each colour in CIELAB's a and b, unit vectors [colors, 2]."""
    rgb = np.array([list(COLOR_RGB.values())], np.float32) / np.float32(255)
    ab = cv2.cvtColor(rgb, cv2.COLOR_RGB2LAB)[0, :, 1:]
    hues: Floats = (ab / np.linalg.norm(ab, axis=1, keepdims=True)).astype(np.float32)
    return hues


def unmix(rgb: Floats) -> Layers | None:
    """Splits a working picture into its layers; None when nothing in it is coloured."""
    ab = _from_background(rgb)
    chroma = np.sqrt(np.square(ab[..., 0]) + np.square(ab[..., 1]))
    colored = chroma > LEAST_CHROMA
    if not LEAST_THING_PX < colored.sum() < MOST_COLORED * colored.size:
        return None
    core = chroma > max(LEAST_CHROMA, 0.75 * float(np.quantile(chroma[colored], 0.9)))
    background = np.median(rgb[::2, ::2][~colored[::2, ::2]], axis=0)
    basis = np.stack([np.median(rgb[core], axis=0) - background, -background])
    solve = np.linalg.pinv(basis).astype(np.float32)
    mixed = ((rgb - background).reshape(-1, 3) @ solve).reshape(*rgb.shape[:2], 2)
    thing = (mixed[..., 0] + _sharpened(mixed[..., 0], rgb, background)) / 2
    return Layers(thing, mixed[..., 1], _read_color(ab[core]))


def _read_color(ab: Floats) -> str | None:
    """The colour nearest in hue to most of the pixels [n, 2]; None when they are of several."""
    votes = np.bincount((ab @ _hues().T).argmax(axis=1), minlength=len(COLOR_RGB))
    winner = int(votes.argmax())
    return tuple(COLOR_RGB)[winner] if votes[winner] > LEAST_AGREEMENT * len(ab) else None


def _sharpened(thing: Floats, rgb: Floats, background: Floats) -> Floats:
    """Coverage by things [h, w] with the edges of the picture's lightness.

    JPEG keeps colour at half the resolution, and `thing`, read from colour, is blurred by it.
    Where there is some colour, darkness is a thing's and not ink's, and tells how much.
    """
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    darkness = (background - rgb) @ weights
    full = float(np.median(darkness[thing > 0.75])) if (thing > 0.75).any() else 1.0
    sharp: Floats = np.minimum(darkness / max(full, 0.05), 2 * thing)
    return sharp


# Things


def find_things(coverage: Floats) -> Things:
    """The separate things in a coverage map [h, w], debris left out."""
    mask = (coverage > SOLID).astype(np.uint8)
    total, labels, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=4)
    largest = max(int(stats[1:, cv2.CC_STAT_AREA].max()), LEAST_THING_PX) if total > 1 else 0
    kept = [i for i in range(1, total) if stats[i, cv2.CC_STAT_AREA] >= LEAST_THING_SHARE * largest]
    centers, boxes, patches = [], [], []
    for i in kept[: max(COUNTS) + 1]:
        left, top, width, height, _ = (int(value) for value in stats[i])
        around = slice(max(top - 5, 0), top + height + 5), slice(max(left - 5, 0), left + width + 5)
        here = labels[around]
        others = cv2.dilate(((here > 0) & (here != i)).astype(np.uint8), np.ones((5, 5), np.uint8))
        own = cv2.dilate((here == i).astype(np.uint8), np.ones((9, 9), np.uint8))
        soft = np.clip(coverage[around], 0, 1) * (own > others)
        center, patch = _patch(soft)
        patches.append(patch)
        centers.append((center[0] + around[1].start, center[1] + around[0].start))
        boxes.append((left, top, left + width, top + height))
    return Things(*(np.array(values, np.float32) for values in (centers, boxes, patches)))


def _patch(soft: Floats) -> tuple[tuple[float, float], Floats]:
    """The centre (x, y) of a thing, from its coverage [h, w], and the thing brought to a common
    place and area, zero mean and unit norm, [PATCH_PX ** 2]."""
    area = float(soft.sum())
    y, x = np.arange(soft.shape[0])[:, None], np.arange(soft.shape[1])
    center = float((x * soft).sum()) / area, float((y * soft).sum()) / area
    step = 2 * PATCH_REACH * np.sqrt(area) / PATCH_PX
    start = (PATCH_PX - 1) / 2
    move = np.array([[step, 0, center[0] - start * step], [0, step, center[1] - start * step]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    patch = cv2.warpAffine(soft, move, (PATCH_PX, PATCH_PX), flags=flags).ravel()
    patch = patch - patch.mean()
    return center, (patch / (np.linalg.norm(patch) + 1e-6)).astype(np.float32)


@cache
def _templates() -> tuple[Floats, tuple[str, ...]]:
    """Patches [n, PATCH_PX ** 2] of every shape, turned and blurred a little, and their names."""
    patches, names = [], []
    for shape in SHAPES:
        for turn in (-0.14, -0.07, 0.0, 0.07, 0.14):
            for blur_px in (1.0, 3.0, 5.0, 7.0):
                sin, cos = np.sin(turn), np.cos(turn)
                outline = shape_outline(shape) @ np.array([[cos, sin], [-sin, cos]])
                canvas = np.zeros((96, 96), np.uint8)
                cv2.fillPoly(canvas, [np.round(48 + 48 * outline).astype(np.int32)], 255)
                soft = cv2.GaussianBlur(canvas, (0, 0), blur_px).astype(np.float32)
                soft /= np.float32(255)
                patches.append(_patch(soft)[1])
                names.append(shape)
    return np.array(patches), tuple(names)


def read_shape(things: Things) -> str | None:
    """The shape whose templates correlate best with the things' patches, on average."""
    templates, names = _templates()
    likeness = things.patches @ templates.T
    best = {
        shape: float(likeness[:, [name == shape for name in names]].max(axis=1).mean())
        for shape in SHAPES
    }
    winner = max(best, key=best.__getitem__)
    return winner if best[winner] > LEAST_LIKENESS else None


def read_arrangement(centers: Floats) -> str:
    """How things stand, from their centres [n, 2]: the direction of their line, if on a line."""
    if len(centers) == 1:
        return "single"
    offsets = centers - centers.mean(axis=0)
    _, spread, directions = np.linalg.svd(offsets, full_matrices=False)
    if len(centers) > 2 and spread[1] > 0.3 * spread[0]:
        return "ring"
    slope_deg = np.degrees(np.arctan2(abs(directions[0, 1]), abs(directions[0, 0])))
    if slope_deg < 22.5:
        return "row"
    return "column" if slope_deg > 67.5 else "diagonal"


def read_action(layers: Layers, things: Things) -> str | None:
    """How things move, from where the ink lies about them and which way its lines run.

    Each rule is the picture in words: hops lie all below; rolling's lines are all level and none
    is above; falling's are upright, above things, never beside; spinning's arcs balance each
    other about the middle of the things.
    """
    ink = _clean_ink(layers)
    total = float(ink.sum())
    if total < LEAST_INK * ink.shape[0] * ink.shape[1]:
        return "still"
    left, top = things.boxes[:, :2].min(axis=0)
    right, bottom = things.boxes[:, 2:].max(axis=0)
    y, x = np.arange(ink.shape[0])[:, None], np.arange(ink.shape[1])
    is_level, is_upright = _line_directions(ink)
    level, upright = float(ink[is_level].sum()) / total, float(ink[is_upright].sum()) / total
    above, below = float((ink * (y < top)).sum()) / total, float((ink * (y > bottom)).sum()) / total
    beside = float((ink * ((x < left) | (x > right))).sum()) / total
    if below > 0.85 and level < 0.5:
        return "bouncing"
    if level > 0.45 and above < 0.25:
        return "rolling"
    if upright > 0.3 and beside < 0.35 and below < 0.2:
        return "falling"
    center = np.array([float((ink * x).sum()), float((ink * y).sum())]) / total
    off_balance = np.linalg.norm(center - things.centers.mean(axis=0)) / WORK_PX
    return "spinning" if off_balance < MOST_OFF_BALANCE else None


def _clean_ink(layers: Layers) -> Floats:
    """Ink coverage [h, w] in 0 to 1, without faint noise and the rims of things."""
    near_things = cv2.dilate((layers.thing > 0.3).astype(np.uint8), np.ones((7, 7), np.uint8))
    clean: Floats = np.clip(layers.ink, 0, 1) * (layers.ink > 0.2) * (near_things == 0)
    return clean


def _line_directions(ink: Floats) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
    """Where the ink's lines run level, and where upright, both within 18 degrees, bool [h, w].

    From the structure tensor: its main direction crosses the line.
    """
    smooth = cv2.GaussianBlur(ink, (0, 0), 1)
    along_x, along_y = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    difference = cv2.GaussianBlur(along_x * along_x - along_y * along_y, (0, 0), 2)
    product = cv2.GaussianBlur(along_x * along_y, (0, 0), 2)
    across_deg = np.abs(np.degrees(np.arctan2(2 * product, difference))) / 2
    return across_deg > 72, across_deg < 18
