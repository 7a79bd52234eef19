"""Draws scenes: flat coloured things on a light background, their action as dark grey marks.

A picture is first planned in unit coordinates (x right, y down, both in [0, 1]) and then drawn at
any size, so the same (scene, seed) at 48 and 256 pixels is the same picture. Colour, count and
shape are carried by the coloured things alone, the action by the grey marks alone
(:mod:`surd.demo.marks`).
"""

from __future__ import annotations

import zlib
from dataclasses import astuple, dataclass

import cv2
import numpy as np
import numpy.typing as npt

from surd.demo.marks import MARGINS, REACH, Points, action_marks, on_circle
from surd.demo.scenes import Group, Pair, Scene

Picture = npt.NDArray[np.uint8]
"""[height, width, 3] RGB."""
Mask = npt.NDArray[np.float32]
"""[height, width] coverage in [0, 1]."""

COLOR_RGB: dict[str, tuple[int, int, int]] = {
    "red": (214, 28, 44),
    "orange": (244, 124, 14),
    "yellow": (244, 196, 12),
    "green": (32, 150, 60),
    "cyan": (10, 186, 200),
    "blue": (24, 92, 220),
    "purple": (140, 44, 172),
    "pink": (246, 108, 178),
}

THING_PER_PITCH = 0.77
"""Diameter of a thing over the distance between neighbours."""
LARGEST_DIAMETER = {1: 0.46, 2: 0.32, 3: 0.27, 4: 0.25}
LARGEST_DIAMETER_OF_PAIR = {1: 0.36, 2: 0.32}
SMALLEST_SCALE = 0.84
"""Things are drawn at this to 1.0 times the largest size that fits."""
DIAGONAL_STEP = 0.93
"""Horizontal and vertical distance of neighbours on a diagonal, in pitches."""
RING_RADIUS = {3: 0.78, 4: 0.94}
"""Distance of a ring's things from its centre, in pitches."""
RING_STARTS = {3: (np.pi / 6, np.pi / 2), 4: (0.0, np.pi / 4)}
"""A ring of three points up or down, a ring of four stands on a side or a corner."""


@dataclass(frozen=True)
class Background:
    """Two light tints, blended along (dx, dy) or, when radial, from the centre outwards."""

    inner_rgb: tuple[float, float, float]
    outer_rgb: tuple[float, float, float]
    direction: tuple[float, float]
    radial: bool


@dataclass(frozen=True)
class Things:
    """Things of one kind; lengths are fractions of the picture's side."""

    shape: str
    centers: Points
    diameter: float
    angles_rad: tuple[float, ...]
    fill_rgb: tuple[float, float, float]


@dataclass(frozen=True)
class Plan:
    """Everything a picture is drawn from; lengths are fractions of its side."""

    groups: tuple[Things, ...]
    finish: str  # "flat", "outlined" or "glossy"
    strokes: list[Points]
    stroke_width: float
    ink_rgb: tuple[float, float, float]
    background: Background


def paint(scene: Scene | Pair, *, seed: int, size_px: int = 256) -> Picture:
    """The picture of `scene`, uint8 [size_px, size_px, 3] RGB; the same for the same arguments."""
    return draw(plan(scene, seed=seed), size_px)


def plan(scene: Scene | Pair, *, seed: int) -> Plan:
    """Everything about the picture but its size, drawn at random from (scene, seed)."""
    rng = np.random.default_rng([seed, zlib.crc32(repr(astuple(scene)).encode())])
    if isinstance(scene, Pair):
        groups = tuple(
            _half(group, side, rng) for side, group in enumerate((scene.left, scene.right))
        )
        strokes: list[Points] = []
    else:
        behind = int(rng.choice([-1, 1]))
        centers, diameter = _layout(scene, rng, behind=behind)
        groups = (_things(scene, centers, diameter, rng),)
        strokes = action_marks(scene, centers, diameter, rng, behind=behind)
    return Plan(
        groups=groups,
        finish=str(rng.choice(["flat", "outlined", "glossy"])),
        strokes=strokes,
        stroke_width=float(rng.uniform(0.024, 0.034)),
        ink_rgb=_jittered((float(rng.integers(35, 90)),) * 3, rng),
        background=_background(rng),
    )


def _things(
    kind: Scene | Group, centers: Points, diameter: float, rng: np.random.Generator
) -> Things:
    return Things(
        shape=kind.shape,
        centers=centers,
        diameter=diameter,
        angles_rad=tuple(rng.uniform(-0.11, 0.11) + rng.uniform(-0.03, 0.03, kind.count)),
        fill_rgb=_jittered(COLOR_RGB[kind.color], rng),
    )


def shape_outline(shape: str) -> Points:
    """The closed outline [n, 2] of a shape of diameter about 1 around the origin, y down."""
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    if shape == "circle":
        return on_circle(turn) / 2
    if shape == "square":
        return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.44
    if shape == "triangle":
        return np.array([[0, -0.54], [0.54, 0.4], [-0.54, 0.4]])
    if shape == "star":
        spoke = np.arange(10) * np.pi / 5 - np.pi / 2
        radius = np.where(np.arange(10) % 2 == 0, 0.6, 0.235)
        return on_circle(spoke) * radius[:, None]
    if shape == "heart":
        x = 16 * np.sin(turn) ** 3
        y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
        return np.stack([x / 31, -(y + 1.5) / 29], 1)
    if shape == "cross":
        arm, wide = 0.54, 0.19
        quarter = np.array([[wide, -arm], [wide, -wide], [arm, -wide]])
        turns = [np.array([[0, -1], [1, 0]]), np.array([[-1, 0], [0, -1]])]
        turns = [np.eye(2), turns[0], turns[1], -turns[0]]
        return np.concatenate([quarter @ one.T for one in turns])
    if shape == "moon":
        edge = np.linspace(0.7, 2 * np.pi - 0.7, 48)
        outer = on_circle(edge) * 0.56
        middle, hollow = 0.33, float(np.hypot(outer[0, 0] - 0.33, outer[0, 1]))
        start = float(np.arctan2(outer[0, 1], outer[0, 0] - middle))
        inner = on_circle(np.linspace(2 * np.pi - start, start, 48)) * hollow
        return np.concatenate([outer, inner + np.array([middle, 0])]) + np.array([0.1, 0])
    if shape == "diamond":
        return np.array([[0, -0.6], [0.42, 0], [0, 0.6], [-0.42, 0]])
    raise ValueError(f"no outline for shape {shape!r}")


# Where the things stand


def _half(group: Group, side: int, rng: np.random.Generator) -> Things:
    """The things of a group in the left (0) or right (1) half, above each other."""
    diameter = LARGEST_DIAMETER_OF_PAIR[group.count] * rng.uniform(SMALLEST_SCALE, 1)
    reach = diameter * REACH
    x = side / 2 + rng.uniform(reach + 0.03, 0.47 - reach)
    room = 0.96 - 2 * reach
    if group.count == 1:
        y = [0.02 + reach + rng.uniform(0, room)]
    else:
        gap = diameter / THING_PER_PITCH
        first = 0.02 + reach + rng.uniform(0, room - gap * (group.count - 1))
        y = [first + gap * number for number in range(group.count)]
    centers = np.array([[x, level] for level in y])
    return _things(group, centers, diameter, rng)


def _layout(scene: Scene, rng: np.random.Generator, *, behind: int) -> tuple[Points, float]:
    """Centres [count, 2] and diameter of the things, clear of each other and of the margins."""
    offsets = _offsets(scene.count, scene.arrangement, rng)
    usual = MARGINS[scene.action, "any"]
    front, top, back, bottom = MARGINS.get((scene.action, scene.arrangement), usual)
    low = np.array([front if behind > 0 else back, top])
    room = 1 - np.array([front + back, top + bottom])
    extent = np.ptp(offsets, axis=0) + THING_PER_PITCH * REACH * 2
    pitch = min(float((room / extent).min()), LARGEST_DIAMETER[scene.count] / THING_PER_PITCH)
    pitch *= rng.uniform(SMALLEST_SCALE, 1)
    corner = low + rng.uniform(0, 1, 2) * (room - pitch * extent)
    first = corner + pitch * (THING_PER_PITCH * REACH - offsets.min(axis=0))
    return first + offsets * pitch, pitch * THING_PER_PITCH


def _offsets(count: int, arrangement: str, rng: np.random.Generator) -> Points:
    """Where the things stand relative to each other, [count, 2] in pitches."""
    step = np.arange(count, dtype=np.float64)
    if arrangement == "column":
        return np.stack([step * 0, step], 1)
    if arrangement == "diagonal":
        return np.stack([step, step * rng.choice([-1, 1])], 1) * DIAGONAL_STEP
    if arrangement == "ring":
        first = rng.choice(RING_STARTS[count]) + rng.uniform(-0.12, 0.12)
        return on_circle(first + step * 2 * np.pi / count) * RING_RADIUS[count]
    return np.stack([step, step * 0], 1)


# Colours


def _jittered(
    rgb: tuple[float, ...], rng: np.random.Generator, spread: float = 8
) -> tuple[float, float, float]:
    red, green, blue = np.clip(np.array(rgb) + rng.uniform(-spread, spread, 3), 0, 255)
    return float(red), float(green), float(blue)


def _background(rng: np.random.Generator) -> Background:
    base = rng.uniform(236, 250)
    angle = rng.uniform(0, 2 * np.pi)
    return Background(
        inner_rgb=_jittered((base,) * 3, rng, spread=9),
        outer_rgb=_jittered((base - rng.uniform(0, 16),) * 3, rng, spread=9),
        direction=(float(np.cos(angle)), float(np.sin(angle))),
        radial=bool(rng.random() < 0.4),
    )


# Drawing


def draw(plan: Plan, size_px: int) -> Picture:
    """Draws a plan: masks at several times the size, averaged down, blended over the background."""
    canvas = _paint_background(plan.background, size_px)
    _blend(canvas, _stroke_mask(plan.strokes, plan.stroke_width, size_px), plan.ink_rgb)
    for things in plan.groups:
        _draw_things(canvas, things, plan.finish, size_px)
    picture: Picture = np.clip(canvas + 0.5, 0, 255).astype(np.uint8)
    return picture


def _draw_things(canvas: Mask, things: Things, finish: str, size_px: int) -> None:
    outlines = [_placed(things, i) for i in range(len(things.centers))]
    mask = _polygon_mask(outlines, size_px)
    _blend(canvas, mask, things.fill_rgb)
    fill = np.array(things.fill_rgb)
    if finish == "outlined":
        closed = [np.concatenate([o, o[:1]]) for o in outlines]
        rim = _stroke_mask(closed, 0.12 * things.diameter, size_px) * mask
        _blend(canvas, rim, tuple(fill * 0.74))
    if finish == "glossy":
        shift = 0.58 * things.centers - 0.1 * things.diameter
        lit = [0.42 * outline + shift[i] for i, outline in enumerate(outlines)]
        _blend(canvas, _polygon_mask(lit, size_px) * mask * 0.5, tuple(fill + (255 - fill) * 0.45))


def _placed(things: Things, number: int) -> Points:
    """The outline [n, 2] of one thing where it stands."""
    sin, cos = np.sin(things.angles_rad[number]), np.cos(things.angles_rad[number])
    turned = shape_outline(things.shape) @ np.array([[cos, sin], [-sin, cos]])
    placed: Points = things.centers[number] + turned * things.diameter
    return placed


def _paint_background(background: Background, size_px: int) -> Mask:
    """The empty canvas, float32 [size_px, size_px, 3] in 0 to 255."""
    grid = (np.arange(size_px, dtype=np.float32) + 0.5) / size_px - 0.5
    x, y = grid[None, :], grid[:, None]
    dx, dy = background.direction
    blend = (x * x + y * y) * 2 if background.radial else (x * dx + y * dy) / 1.42 + 0.5
    inner = np.array(background.inner_rgb, np.float32)
    outer = np.array(background.outer_rgb, np.float32)
    canvas: Mask = inner + blend[..., None] * (outer - inner)
    return canvas


def _blend(canvas: Mask, mask: Mask, rgb: tuple[float, ...]) -> None:
    """Lays a colour over the canvas in place, where the mask is 1."""
    left, top, width, height = cv2.boundingRect((mask > 0).view(np.uint8))
    part = canvas[top : top + height, left : left + width]
    share = mask[top : top + height, left : left + width, None]
    part += share * (np.array(rgb, np.float32) - part)


SUBPIXEL_BITS = 6


def _oversampled(size_px: int) -> Picture:
    """An empty uint8 mask whose side is a multiple of size_px, at least 384."""
    side = size_px * max(2, -(-384 // size_px))
    return np.zeros((side, side), np.uint8)


def _corners(points: Points, side: int) -> npt.NDArray[np.int32]:
    """Unit coordinates as OpenCV's fixed-point pixel centres, int32 [n, 2]."""
    return np.round((points * side - 0.5) * (1 << SUBPIXEL_BITS)).astype(np.int32)


def _polygon_mask(outlines: list[Points], size_px: int) -> Mask:
    mask = _oversampled(size_px)
    for outline in outlines:
        cv2.fillPoly(mask, [_corners(outline, len(mask))], 255, shift=SUBPIXEL_BITS)
    return _averaged(mask, size_px)


def _stroke_mask(lines: list[Points], width: float, size_px: int) -> Mask:
    mask = _oversampled(size_px)
    corners = [_corners(line, len(mask)) for line in lines]
    thickness = max(1, round(width * len(mask)))
    cv2.polylines(mask, corners, False, 255, thickness, shift=SUBPIXEL_BITS)
    return _averaged(mask, size_px)


def _averaged(mask: Picture, size_px: int) -> Mask:
    small = cv2.resize(mask, (size_px, size_px), interpolation=cv2.INTER_AREA)
    covered: Mask = small.astype(np.float32) / np.float32(255)
    return covered
