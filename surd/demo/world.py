"""The catalogue of the demo's site: pictures with prompts, and the truth about every entry.

Most prompts speak of their picture. A known share speaks of another scene, some pictures are
posted twice, and some come back re-encoded, resized or cropped.
"""

from __future__ import annotations

import io
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
from PIL import Image

from surd.demo.painter import Picture, paint
from surd.demo.scenes import (
    ACTIONS,
    ARRANGEMENTS_OF_COUNT,
    COLORS,
    COUNTS,
    PAIR_COUNTS,
    SHAPES,
    Group,
    Pair,
    Scene,
    Split,
    all_pairs,
    all_scenes,
    split_of,
)
from surd.demo.tags import complex_prompt, negative_prompt

Value = TypeVar("Value")
Kind = Literal["true", "contradiction", "duplicate", "near_duplicate"]

SHARES: dict[Kind, float] = {"contradiction": 0.15, "duplicate": 0.03, "near_duplicate": 0.03}
"""Of all entries; the rest is true."""
PAIR_SHARE = 0.2
"""Of the pictures that are not repeats, those that show two groups."""
CHANGED = ("count", "count", "color", "color", "shape", "shape", "arrangement", "action")
"""Which attribute a contradicting prompt gets wrong, as often as it stands here."""
FORMATS = {"image/jpeg": 0.84, "image/png": 0.1, "image/webp": 0.06}
NSFW_LEVELS = {"None": 0.86, "Soft": 0.08, "Mature": 0.04, "X": 0.02}
SQUARE_SIDES = {1.0: 0.55, 1.25: 0.15, 1.5: 0.15, 2.0: 0.15}
"""Sides of square pictures, in size_px, and how often."""
PADDED_SHAPES = ((1.0, 1.5), (1.5, 1.0), (1.25, 1.75), (1.75, 1.25), (1.0, 2.0))
"""Width and height of other pictures, in size_px: the square painting, its background spread."""
PADDED_SHARE = 0.25
CHANGES = ("reencoded", "smaller", "cropped")
"""What happened to a picture before it was posted again as a near duplicate."""
USERNAMES = (
    "gouache_goat", "vectorvera", "mono_tone", "inkwell", "pixelpetra", "tidy_tim", "lumen",
    "papercutpaul", "quietcanvas", "drybrush", "sketchbook9", "hue_and_cry", "plainview",
)  # fmt: skip
SAMPLERS = ("Euler a", "Euler", "DDIM", "DPM++ 2M Karras", "DPM++ SDE Karras", "UniPC")
MODELS = (
    ("dreamlike_flat_v1", "a1b2c3d4e5"),
    ("papercraft_v20", "0f9e8d7c6b"),
    ("toonvector_v3", "5577aa33cc"),
)


@dataclass(frozen=True)
class Entry:
    """One picture of the site, what its prompt says, and what it really shows."""

    scene: Scene | Pair
    said: Scene | Pair
    kind: Kind
    picture: bytes
    mime: str
    width: int
    height: int
    prompt: str
    negative_prompt: str
    nsfw_level: str
    username: str
    seed: int
    settings: dict[str, object]
    original: int | None = None
    """Index of the entry that a duplicate or near duplicate repeats."""


def world(
    count: int = 600,
    *,
    seed: int = 0,
    size_px: int = 256,
    splits: tuple[Split, ...] = ("train",),
) -> list[Entry]:
    """A site of `count` entries, byte for byte the same for the same arguments.

    Pictures are size_px to 2 * size_px a side. Scenes, shown or said, are of `splits` alone, so
    that what is built from the site may be trained on.
    """
    rng = random.Random(f"world {seed}")
    scenes = {n: [s for s in _scenes_of(splits) if s.count == n] for n in COUNTS}
    pairs = [pair for split in splits for pair in all_pairs(split)]
    entries: list[Entry] = []
    for kind in _kinds(count, rng):
        if kind in ("duplicate", "near_duplicate"):
            entries.append(_repeated(entries, kind, rng))
            continue
        scene: Scene | Pair = rng.choice(scenes[rng.choice(COUNTS)])
        if rng.random() < PAIR_SHARE:
            scene = rng.choice(pairs)
        said = _contradicting(scene, splits, rng) if kind == "contradiction" else scene
        picture = _canvas(scene, size_px, rng)
        entries.append(_entry(scene, said, kind, picture, rng))
    return entries


def _scenes_of(splits: tuple[Split, ...]) -> list[Scene]:
    return [scene for scene in all_scenes() if split_of(scene) in splits]


def _kinds(count: int, rng: random.Random) -> list[Kind]:
    """The kinds in order; the first is true, so that a repeat has something to repeat."""
    kinds: list[Kind] = []
    for kind, share in SHARES.items():
        kinds += [kind] * round(count * share)
    kinds += ["true"] * (count - 1 - len(kinds))
    rng.shuffle(kinds)
    first: list[Kind] = ["true"]
    return (first + kinds)[:count]


def _contradicting(
    scene: Scene | Pair, splits: tuple[Split, ...], rng: random.Random
) -> Scene | Pair:
    """A scene which differs from `scene`, mostly in one attribute."""
    if isinstance(scene, Pair):
        return _contradicting_pair(scene, splits, rng)
    while True:
        attribute = rng.choice(CHANGED)
        values: dict[str, Sequence[object]] = {
            "count": COUNTS,
            "color": COLORS,
            "shape": SHAPES,
            "arrangement": ARRANGEMENTS_OF_COUNT[scene.count],
            "action": ACTIONS,
        }
        changes: dict[str, object] = {attribute: rng.choice(values[attribute])}
        if attribute == "count":
            places = ARRANGEMENTS_OF_COUNT[int(str(changes["count"]))]
            kept = scene.arrangement in places
            changes["arrangement"] = scene.arrangement if kept else rng.choice(places)
        said = Scene(**{**vars(scene), **changes})
        if said != scene and split_of(said) in splits:
            return said


def _contradicting_pair(pair: Pair, splits: tuple[Split, ...], rng: random.Random) -> Pair:
    """A pair whose groups stand the other way round, or of whom one is another."""
    if rng.random() < 0.25:
        return Pair(pair.right, pair.left)
    while True:
        changed = rng.choice((pair.left, pair.right))
        values: dict[str, Sequence[object]] = {
            "count": PAIR_COUNTS, "color": COLORS, "shape": SHAPES
        }  # fmt: skip
        attribute = rng.choice(list(values))
        group = Group(**{**vars(changed), attribute: rng.choice(values[attribute])})
        said = replace(pair, **{"left" if changed == pair.left else "right": group})
        clear = said.left.color != said.right.color and said.left.shape != said.right.shape
        if said != pair and clear and split_of(group) in splits:
            return said


def _canvas(scene: Scene | Pair, size_px: int, rng: random.Random) -> Picture:
    """A painting, square or in the middle of a longer canvas of its own background."""
    painting_seed = rng.randrange(2**31)
    if rng.random() >= PADDED_SHARE:
        return paint(scene, seed=painting_seed, size_px=round(size_px * _pick(SQUARE_SIDES, rng)))
    width, height = (round(size_px * part) for part in rng.choice(PADDED_SHAPES))
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    painting = paint(scene, seed=painting_seed, size_px=side)
    edges = ((top, height - side - top), (left, width - side - left), (0, 0))
    return np.pad(painting, edges, mode="edge")


def _entry(
    scene: Scene | Pair, said: Scene | Pair, kind: Kind, picture: Picture, rng: random.Random
) -> Entry:
    mime = _pick(FORMATS, rng)
    height, width = picture.shape[:2]
    return Entry(
        scene=scene,
        said=said,
        kind=kind,
        picture=_encoded(picture, mime, quality=90),
        mime=mime,
        width=width,
        height=height,
        **_post(said, width, height, rng),
    )


def _post(said: Scene | Pair, width: int, height: int, rng: random.Random) -> dict[str, Any]:
    """What a user adds to a picture: prompts, settings, a name."""
    seed = rng.randrange(2**32)
    model, model_hash = rng.choice(MODELS)
    return {
        "prompt": complex_prompt(said, seed=seed),
        "negative_prompt": negative_prompt(seed),
        "nsfw_level": _pick(NSFW_LEVELS, rng),
        "username": rng.choice(USERNAMES),
        "seed": seed,
        "settings": {
            "steps": rng.choice((20, 25, 28, 30, 40)),
            "sampler": rng.choice(SAMPLERS),
            "cfgScale": rng.choice((5, 6.5, 7, 7.5, 9)),
            "seed": seed,
            "Size": f"{width}x{height}",
            "Model": model,
            "Model hash": model_hash,
            "Clip skip": rng.choice((1, 2)),
        },
    }


def _repeated(entries: list[Entry], kind: Kind, rng: random.Random) -> Entry:
    """An earlier true entry posted again, with its own bytes or with changed ones."""
    index = rng.choice([i for i, entry in enumerate(entries) if entry.kind == "true"])
    original = entries[index]
    picture, mime = original.picture, original.mime
    width, height = original.width, original.height
    if kind == "near_duplicate":
        pixels = _changed(np.array(Image.open(io.BytesIO(picture)).convert("RGB")), rng)
        picture, mime = (
            _encoded(pixels, "image/jpeg", quality=rng.choice((75, 80, 85))),
            "image/jpeg",
        )
        height, width = pixels.shape[:2]
    again = replace(original, kind=kind, picture=picture, mime=mime, width=width, height=height)
    return replace(again, original=index, **_post(original.said, width, height, rng))


def _changed(pixels: Picture, rng: random.Random) -> Picture:
    change = rng.choice(CHANGES)
    height, width = pixels.shape[:2]
    if change == "smaller":
        share = rng.uniform(0.85, 0.95)
        size = (round(width * share), round(height * share))
        return cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8)
    if change == "cropped":
        across, down = max(1, width // 60), max(1, height // 60)
        return pixels[down:-down, across:-across]
    return pixels


def _encoded(pixels: Picture, mime: str, *, quality: int) -> bytes:
    file = io.BytesIO()
    options: dict[str, dict[str, Any]] = {
        "image/jpeg": {"format": "JPEG", "quality": quality},
        "image/png": {"format": "PNG"},
        "image/webp": {"format": "WEBP", "quality": quality, "method": 2},
    }
    Image.fromarray(pixels).save(file, **options[mime])
    return file.getvalue()


def _pick(shares: dict[Value, float], rng: random.Random) -> Value:
    """One of the keys, each as often as its share."""
    return rng.choices(list(shares), list(shares.values()))[0]
