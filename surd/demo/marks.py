"""The grey marks that show a scene's action, as lines in unit coordinates.

    falling    upright streaks above the things
    rolling    a ground line below, level streaks behind
    spinning   two arcs with arrowheads, one on either side
    bouncing   a trail of hops below, each lower than the one before
    still      no marks

`behind` is the side, -1 (left) or 1 (right), from which the things have come.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from surd.demo.scenes import Scene

Points = npt.NDArray[np.float64]
"""[n, 2] x and y in unit coordinates."""

REACH = 0.56
"""How far a thing extends from its centre, in diameters."""
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


def action_marks(
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
    arc: Points = middle + radius * on_circle(rng.uniform(-0.5, 0.5) + np.linspace(-0.85, 0.85, 16))
    return arc


def _arc_along(centers: Points, diameter: float) -> Points:
    """An arc [16, 2] along one side of a line of things, bowed outwards."""
    span = centers[-1] - centers[0]
    along = span / np.linalg.norm(span)
    across = np.array([-along[1], along[0]])
    half_length = float(np.linalg.norm(span)) / 2 + 0.3 * diameter
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


def on_circle(angle_rad: npt.NDArray[np.float64]) -> Points:
    """The points [n, 2] of the unit circle at these angles, clockwise from the right."""
    return np.stack([np.cos(angle_rad), np.sin(angle_rad)], 1)
