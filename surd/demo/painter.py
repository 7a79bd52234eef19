"""Draws scenes: flat coloured things on a light background, their action as dark grey marks.

A picture is first planned in unit coordinates (x right, y down, both in [0, 1]) and then drawn at
any size, so the same (scene, seed) at 48 and 256 pixels is the same picture. Colour, count and
shape are carried by the coloured things alone, the action by the grey marks alone:

    falling    upright streaks above the things
    rolling    a ground line below, level streaks behind
    spinning   two arcs with arrowheads, one on either side
    bouncing   a trail of hops below, each lower than the one before
    still      no marks
"""

from __future__ import annotations

import zlib
from dataclasses import astuple, dataclass

import cv2
import numpy as np
import numpy.typing as npt

from surd.demo.scenes import Scene

Points = npt.NDArray[np.float64]
"""[n, 2] x and y in unit coordinates."""
Picture = npt.NDArray[np.uint8]
"""[height, width, 3] RGB."""
Mask = npt.NDArray[np.float32]
"""[height, width] coverage in [0, 1]."""

COLOR_RGB: dict[str, tuple[int, int, int]] = {
    "red": (218, 34, 40),
    "yellow": (244, 196, 12),
    "green": (32, 150, 60),
    "cyan": (10, 186, 200),
    "blue": (24, 92, 220),
    "purple": (160, 42, 166),
}

THING_PER_PITCH = 0.77
"""Diameter of a thing over the distance between neighbours."""
LARGEST_DIAMETER = {1: 0.46, 2: 0.32, 3: 0.27, 4: 0.25}
SMALLEST_SCALE = 0.84
"""Things are drawn at this to 1.0 times the largest size that fits."""
REACH = 0.56
"""How far a thing extends from its centre, in diameters."""
DIAGONAL_STEP = 0.93
"""Horizontal and vertical distance of neighbours on a diagonal, in pitches."""
RING_RADIUS = {3: 0.78, 4: 0.94}
"""Distance of a ring's things from its centre, in pitches."""
RING_STARTS = {3: (np.pi / 6, np.pi / 2), 4: (0.0, np.pi / 4)}
"""A ring of three points up or down, a ring of four stands on a side or a corner."""
EDGE = 0.04
MARK_GAP = 0.045
HOP_HEIGHT = 0.14
MARGINS: dict[tuple[str, str], tuple[float, float, float, float]] = {
    ("still", "any"): (EDGE, EDGE, EDGE, EDGE),
    ("falling", "any"): (EDGE, 0.18, EDGE, EDGE),
    ("rolling", "any"): (EDGE, EDGE, 0.16, 0.10),
    ("bouncing", "any"): (EDGE, EDGE, EDGE, 0.23),
    ("spinning", "any"): (0.17, 0.17, 0.17, 0.17),
    ("spinning", "single"): (0.13, 0.13, 0.13, 0.13),
    ("spinning", "row"): (EDGE, 0.16, EDGE, 0.16),
    ("spinning", "column"): (0.16, EDGE, 0.16, EDGE),
    ("spinning", "diagonal"): (0.08, 0.08, 0.08, 0.08),
}
"""Front, top, back, bottom strips kept free of things for the marks of (action, arrangement).

On a line the arcs of "spinning" run along it, so its ends need no room."""


@dataclass(frozen=True)
class Background:
    """Two light tints, blended along (dx, dy) or, when radial, from the centre outwards."""

    inner_rgb: tuple[float, float, float]
    outer_rgb: tuple[float, float, float]
    direction: tuple[float, float]
    radial: bool


@dataclass(frozen=True)
class Plan:
    """Everything a picture is drawn from; lengths are fractions of its side."""

    shape: str
    centers: Points
    diameter: float
    angles_rad: tuple[float, ...]
    fill_rgb: tuple[float, float, float]
    finish: str  # "flat", "outlined" or "glossy"
    strokes: list[Points]
    stroke_width: float
    ink_rgb: tuple[float, float, float]
    background: Background


def paint(scene: Scene, *, seed: int, size_px: int = 256) -> Picture:
    """The picture of `scene`, uint8 [size_px, size_px, 3] RGB; the same for the same arguments."""
    return draw(plan(scene, seed=seed), size_px)


def plan(scene: Scene, *, seed: int) -> Plan:
    """Everything about the picture but its size, drawn at random from (scene, seed)."""
    rng = np.random.default_rng([seed, zlib.crc32(repr(astuple(scene)).encode())])
    behind = int(rng.choice([-1, 1]))
    centers, diameter = _layout(scene, rng, behind=behind)
    return Plan(
        shape=scene.shape,
        centers=centers,
        diameter=diameter,
        angles_rad=tuple(rng.uniform(-0.11, 0.11) + rng.uniform(-0.03, 0.03, scene.count)),
        fill_rgb=_jittered(COLOR_RGB[scene.color], rng),
        finish=str(rng.choice(["flat", "outlined", "glossy"])),
        strokes=_strokes(scene, centers, diameter, rng, behind=behind),
        stroke_width=float(rng.uniform(0.024, 0.034)),
        ink_rgb=_jittered((float(rng.integers(35, 90)),) * 3, rng),
        background=_background(rng),
    )


def shape_outline(shape: str) -> Points:
    """The closed outline [n, 2] of a shape of diameter about 1 around the origin, y down."""
    turn = np.linspace(0, 2 * np.pi, 64, endpoint=False)
    if shape == "circle":
        return _on_circle(turn) / 2
    if shape == "square":
        return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * 0.44
    if shape == "triangle":
        return np.array([[0, -0.54], [0.54, 0.4], [-0.54, 0.4]])
    if shape == "star":
        spoke = np.arange(10) * np.pi / 5 - np.pi / 2
        radius = np.where(np.arange(10) % 2 == 0, 0.6, 0.235)
        return _on_circle(spoke) * radius[:, None]
    if shape == "heart":
        x = 16 * np.sin(turn) ** 3
        y = 13 * np.cos(turn) - 5 * np.cos(2 * turn) - 2 * np.cos(3 * turn) - np.cos(4 * turn)
        return np.stack([x / 31, -(y + 1.5) / 29], 1)
    raise ValueError(f"no outline for shape {shape!r}")


# Where the things stand


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
        return _on_circle(first + step * 2 * np.pi / count) * RING_RADIUS[count]
    return np.stack([step, step * 0], 1)


def _on_circle(angle_rad: npt.NDArray[np.float64]) -> Points:
    """The points [n, 2] of the unit circle at these angles, clockwise from the right."""
    return np.stack([np.cos(angle_rad), np.sin(angle_rad)], 1)


# The marks of the actions


def _strokes(
    scene: Scene, centers: Points, diameter: float, rng: np.random.Generator, *, behind: int
) -> list[Points]:
    """The marks of the scene's action, each a polyline [n, 2]."""
    if scene.action == "falling":
        return _streaks(centers, diameter, rng, axis=1, side=-1)
    if scene.action == "rolling":
        return [_ground(centers, diameter), *_streaks(centers, diameter, rng, axis=0, side=behind)]
    if scene.action == "bouncing":
        return [_hops(centers, diameter, mirrored=behind > 0)]
    if scene.action == "spinning":
        round_ = scene.arrangement in ("single", "ring")
        arc = _arc_around(centers, diameter, rng) if round_ else _arc_along(centers, diameter)
        opposite = 2 * centers.mean(axis=0) - arc
        marks = [arc, _arrowhead(arc), opposite, _arrowhead(opposite)]
        return [np.clip(mark, 0.02, 0.98) for mark in marks]
    return []


def _streaks(
    centers: Points, diameter: float, rng: np.random.Generator, *, axis: int, side: int
) -> list[Points]:
    """Two or three lines along `axis` (0 level, 1 upright), on the free `side` (-1 or 1) of each
    thing; a thing with another one close on that side gets none."""
    spread = [-0.28, 0.0, 0.28] if diameter > 0.23 else [-0.25, 0.25]
    strokes = []
    for here in centers:
        beside = centers - here
        in_the_way = np.abs(beside[:, 1 - axis]) < 0.95 * diameter
        if (in_the_way & (side * beside[:, axis] > 0.1 * diameter)).any():
            continue
        for offset in spread:
            line = np.empty((2, 2))
            line[:, 1 - axis] = here[1 - axis] + offset * diameter
            near = here[axis] + side * (REACH * diameter + 0.8 * MARK_GAP)
            line[:, axis] = near, near + side * (rng.uniform(0.1, 0.13) + 0.03 * (offset == 0))
            strokes.append(np.clip(line, 0.02, 0.98))
    return strokes


def _ground(centers: Points, diameter: float) -> Points:
    """A level line [2, 2] below everything, a little wider than everything."""
    left, right = float(centers[:, 0].min()), float(centers[:, 0].max())
    half = max((right - left) / 2 + REACH * diameter + 0.06, 0.2)
    level = centers[:, 1].max() + REACH * diameter + MARK_GAP
    ends = np.clip([(left + right) / 2 - half, (left + right) / 2 + half], 0.03, 0.97)
    return np.array([[ends[0], level], [ends[1], level]])


def _hops(centers: Points, diameter: float, *, mirrored: bool) -> Points:
    """Three hops [n, 2] below everything, each lower and shorter than the one before."""
    left, right = float(centers[:, 0].min()), float(centers[:, 0].max())
    widths = np.array([0.42, 0.33, 0.25]) * min(max(right - left + diameter, 0.5), 0.75)
    base = centers[:, 1].max() + REACH * diameter + MARK_GAP + HOP_HEIGHT
    start = np.clip((left + right - widths.sum()) / 2, 0.04, 0.96 - widths.sum())
    turn = np.linspace(0, np.pi, 12)
    trail = []
    for width, height in zip(widths, HOP_HEIGHT * widths / widths[0], strict=True):
        x = start + width * (1 - np.cos(turn)) / 2
        trail.append(np.stack([x, base - height * np.sin(turn)], 1))
        start += width
    line = np.concatenate(trail)
    if mirrored:
        line[:, 0] = line[0, 0] + line[-1, 0] - line[:, 0]
    return line


def _arc_around(centers: Points, diameter: float, rng: np.random.Generator) -> Points:
    """A little over a quarter of a circle [16, 2] around everything."""
    middle = centers.mean(axis=0)
    radius = np.linalg.norm(centers - middle, axis=1).max() + 0.68 * diameter + MARK_GAP
    arc: Points = middle + radius * _on_circle(
        rng.uniform(-0.5, 0.5) + np.linspace(-0.85, 0.85, 16)
    )
    return arc


def _arc_along(centers: Points, diameter: float) -> Points:
    """An arc [16, 2] along one side of a line of things, bowed outwards."""
    span = centers[-1] - centers[0]
    along = span / np.linalg.norm(span)
    across = np.array([-along[1], along[0]])
    half_length = np.linalg.norm(span) / 2 + 0.3 * diameter
    bow = min(0.09, 0.25 * half_length)
    way = np.linspace(-1, 1, 16)[:, None]
    level = REACH * diameter + 0.7 * MARK_GAP + bow * (1 - way**2)
    arc: Points = centers.mean(axis=0) + along * way * half_length + across * level
    return arc


def _arrowhead(line: Points) -> Points:
    """A "V" [3, 2] at the end of `line`, open backwards."""
    tip = line[-1]
    back = (line[-3] - tip) / np.linalg.norm(line[-3] - tip) * 0.07
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    return np.stack([tip + turn @ back, tip, tip + turn.T @ back])


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
    outlines = [_placed(plan, i) for i in range(len(plan.centers))]
    things = _polygon_mask(outlines, size_px)
    _blend(canvas, things, plan.fill_rgb)
    fill = np.array(plan.fill_rgb)
    if plan.finish == "outlined":
        closed = [np.concatenate([o, o[:1]]) for o in outlines]
        rim = _stroke_mask(closed, 0.12 * plan.diameter, size_px) * things
        _blend(canvas, rim, tuple(fill * 0.74))
    if plan.finish == "glossy":
        shift = 0.58 * plan.centers - 0.1 * plan.diameter
        lit = [0.42 * outline + shift[i] for i, outline in enumerate(outlines)]
        _blend(canvas, _polygon_mask(lit, size_px) * 0.5, tuple(fill + (255 - fill) * 0.45))
    picture: Picture = np.clip(canvas + 0.5, 0, 255).astype(np.uint8)
    return picture


def _placed(plan: Plan, thing: int) -> Points:
    """The outline [n, 2] of one thing where it stands."""
    sin, cos = np.sin(plan.angles_rad[thing]), np.cos(plan.angles_rad[thing])
    turned = shape_outline(plan.shape) @ np.array([[cos, sin], [-sin, cos]])
    placed: Points = plan.centers[thing] + turned * plan.diameter
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
