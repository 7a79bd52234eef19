"""What a picture of the demo world can show, and which of it is never trained on.

A scene is a sentence with five blanks: "3 circle, red, row, falling" is
``Scene(3, "red", "circle", "row", "falling")``. A pair is two groups of things side by side.
Everything else in the demo (pictures, prompts, sentences, readings) is made from one of them or
compared with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Literal

Split = Literal["train", "validation", "test"]
Attribute = Literal["count", "color", "shape", "arrangement", "action"]

COUNTS: tuple[int, ...] = (1, 2, 3, 4)
COLORS: tuple[str, ...] = (
    "red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink",
)  # fmt: skip
SHAPES: tuple[str, ...] = (
    "circle", "square", "triangle", "star", "heart", "cross", "moon", "diamond",
)  # fmt: skip
PAIR_ATTRIBUTES: tuple[str, ...] = ("pair", "groups")
"""What can be asked of a pair: its groups from the left, and wherever they stand."""
PAIR_COUNTS: tuple[int, ...] = (1, 2)
"""How many things a group of a pair can have."""
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


@dataclass(frozen=True, order=True)
class Group:
    """Some things of one kind, in one half of a picture."""

    count: int
    color: str
    shape: str

    def __str__(self) -> str:
        return f"{self.count} {self.color} {self.shape}"


@dataclass(frozen=True, order=True)
class Pair:
    """What a picture of two groups shows; they differ in colour and in shape."""

    left: Group
    right: Group

    @property
    def pair(self) -> str:
        """Both groups, the left one first."""
        return f"{self.left}, {self.right}"

    @property
    def groups(self) -> str:
        """Both groups, wherever they stand."""
        return ", ".join(sorted((str(self.left), str(self.right))))


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
    """Every scene (3,840 of them), always in the same order."""
    return tuple(
        Scene(count, color, shape, arrangement, action)
        for count in COUNTS
        for color in COLORS
        for shape in SHAPES
        for arrangement in ARRANGEMENTS_OF_COUNT[count]
        for action in ACTIONS
    )


@cache
def all_pairs(split: Split) -> tuple[Pair, ...]:
    """Every pair whose groups are both of a split, always in the same order."""
    groups = [
        Group(count, color, shape)
        for count in PAIR_COUNTS
        for color in COLORS
        for shape in SHAPES
        if _split(count, color, shape) == split
    ]
    return tuple(
        Pair(left, right)
        for left in groups
        for right in groups
        if left.color != right.color and left.shape != right.shape
    )


SPLIT_MODULUS = 11
SPLIT_STEPS = (4, 1, 1)
"""Of the walk, for count, colour and shape."""
TEST_RESIDUES = (0, 3, 5, 8, 9)
VALIDATION_RESIDUES = (2,)


def split_of(scene: Scene | Group) -> Split:
    """The split of a scene, decided by its (count, color, shape) alone.

    So "three red stars" is in one split however they stand or move: a test scene's triple was
    never trained on, while each single value and each pair of values was. Nearly half of the
    triples are for the test, so that there are more than a hundred different ones in it. The rule
    walks the triples like a Latin square, and so keeps at least one triple of every pair of values
    for training and every value about equally often in each split; a hash promises neither.
    """
    return _split(scene.count, scene.color, scene.shape)


def _split(count: int, color: str, shape: str) -> Split:
    by_count, by_color, by_shape = SPLIT_STEPS
    walk = (
        by_count * COUNTS.index(count)
        + by_color * COLORS.index(color)
        + by_shape * SHAPES.index(shape)
    )
    residue = walk % SPLIT_MODULUS
    if residue in TEST_RESIDUES:
        return "test"
    return "validation" if residue in VALIDATION_RESIDUES else "train"
