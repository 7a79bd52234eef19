"""What a picture of the demo world can show, and which scenes are never trained on.

A scene is a sentence with five blanks: "3 circle, red, row, falling" is
``Scene(3, "red", "circle", "row", "falling")``. Everything else in the demo (pictures, prompts,
sentences, readings) is made from it or compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

Split = Literal["train", "validation", "test"]
Attribute = Literal["count", "color", "shape", "arrangement", "action"]

COUNTS: tuple[int, ...] = (1, 2, 3, 4)
COLORS: tuple[str, ...] = ("red", "yellow", "green", "cyan", "blue", "purple")
SHAPES: tuple[str, ...] = ("circle", "square", "triangle", "star", "heart")
ACTIONS: tuple[str, ...] = ("still", "falling", "rolling", "spinning", "bouncing")
ATTRIBUTES: tuple[Attribute, ...] = ("count", "color", "shape", "arrangement", "action")

ARRANGEMENTS_OF_COUNT: dict[int, tuple[str, ...]] = {
    1: ("single",),
    2: ("row", "column", "diagonal"),
    3: ("row", "column", "diagonal", "ring"),
    4: ("row", "column", "diagonal", "ring"),
}
"""One thing is always "single"; two things stand on a line, so a ring needs three."""


@dataclass(frozen=True, order=True)
class Scene:
    """What a picture shows: `count` things of one `shape` and `color`, how they stand and move."""

    count: int
    color: str
    shape: str
    arrangement: str
    action: str

    def __post_init__(self) -> None:
        allowed: dict[str, tuple[object, ...]] = {
            "count": COUNTS,
            "color": COLORS,
            "shape": SHAPES,
            "arrangement": ARRANGEMENTS_OF_COUNT.get(self.count, ()),
            "action": ACTIONS,
        }
        for attribute, values in allowed.items():
            value = getattr(self, attribute)
            if value not in values:
                raise ValueError(
                    f"Scene.{attribute} is {value!r} (count {self.count}); choose one of {values}"
                )


@dataclass(frozen=True)
class Reading:
    """What was read from a picture or a sentence; an attribute that cannot be read is None."""

    count: int | None = None
    color: str | None = None
    shape: str | None = None
    arrangement: str | None = None
    action: str | None = None


def matches(
    reading: Reading | Scene,
    scene: Scene,
    attributes: tuple[Attribute, ...] = ("count", "color", "shape"),
) -> bool:
    """Whether `reading` agrees with `scene` on every one of `attributes`; None never agrees."""
    return all(getattr(reading, name) == getattr(scene, name) for name in attributes)


@cache
def all_scenes() -> tuple[Scene, ...]:
    """Every scene (1,800 of them), always in the same order."""
    return tuple(
        Scene(count, color, shape, arrangement, action)
        for count in COUNTS
        for color in COLORS
        for shape in SHAPES
        for arrangement in ARRANGEMENTS_OF_COUNT[count]
        for action in ACTIONS
    )


SPLIT_MODULUS = 13
TEST_RESIDUES = (6, 10)
VALIDATION_RESIDUES = (8,)


def split_of(scene: Scene) -> Split:
    """The split of a scene, decided by its (count, color, shape) alone.

    So "three red stars" is in one split however they stand or move: a test scene's triple was
    never trained on, while each single value and each pair of values was. The rule walks the
    triples like a Latin square, and so keeps at least two triples of every pair for training and
    every value about equally often in each split; a hash promises neither.
    """
    walk = COUNTS.index(scene.count) + 2 * COLORS.index(scene.color) + 4 * SHAPES.index(scene.shape)
    residue = walk % SPLIT_MODULUS
    if residue in TEST_RESIDUES:
        return "test"
    return "validation" if residue in VALIDATION_RESIDUES else "train"
