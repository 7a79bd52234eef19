"""Simple sentences: what people say of a scene.

Synonyms, templates, any word order; a colour by a thing that is known for it; and often what is not
meant ("two red discs, not blue stars"), which nobody puts among tags.
"""

from __future__ import annotations

import random
import re
from typing import Any, Literal

from surd.demo.scenes import Group, Pair, Scene
from surd.demo.words import (
    ACTION_WORDS,
    ARRANGEMENT_WORDS,
    COLOR_WORDS,
    CONTRASTS,
    COUNT_WORDS,
    KNOWLEDGE,
    OBJECTS,
    OPENINGS,
    ORDERED_PAIRS,
    OTHERS,
    PAIRS,
    SENTENCES,
    SENTENCES_FOR_MANY,
    SHAPE_WORDS,
    UNHEARD_COLORS,
    UNHEARD_SHAPES,
    Words,
    WordSet,
)

Manner = Literal["plain", "contrast", "unheard", "knowledge"]
"""``unheard``: one word that the diffusion model's text encoder never read; ``knowledge``: the
colour by a thing that is known for it."""
MANNERS: dict[Manner, float] = {"plain": 0.3, "contrast": 0.2, "unheard": 0.2, "knowledge": 0.3}
"""How often people speak so."""
_UNHEARD_SHAPE_SHARE = 0.25
_ORDERED_SHARE = 0.5


def simple_sentence(
    scene: Scene | Pair,
    *,
    seed: int,
    words: WordSet = "train",
    manner: Manner | None = None,
    ordered: bool | None = None,
) -> str:
    """The scene in everyday words of one set; all attributes are said.

    Only "single" may go unsaid: one thing has no arrangement. Of a scene, `manner` is one of those
    it can be spoken of (`can_say`), or drawn; of a pair, `ordered` is whether the sentence says
    which group is to the left, or drawn.
    """
    rng = random.Random(f"simple {words} {seed} {scene}")
    if isinstance(scene, Pair):
        text = _pair(scene, words, rng, ordered)
    else:
        text = _scene(scene, words, rng, manner or _drawn(scene, rng))
    return text[0].upper() + text[1:] + "." if rng.random() < 0.3 else text


def can_say(scene: Scene, manner: Manner) -> bool:
    """Whether there are words for it."""
    return scene.color in OBJECTS if manner == "knowledge" else True


def _drawn(scene: Scene, rng: random.Random) -> Manner:
    possible = [manner for manner in MANNERS if can_say(scene, manner)]
    return rng.choices(possible, [MANNERS[manner] for manner in possible])[0]


def _scene(scene: Scene, words: WordSet, rng: random.Random, manner: Manner) -> str:
    many = scene.count > 1
    templates = SENTENCES.of(words) + (SENTENCES_FOR_MANY.of(words) if many else ())
    color, shape = COLOR_WORDS[scene.color], SHAPE_WORDS[scene.shape]
    if manner == "unheard":
        if scene.color not in UNHEARD_COLORS or rng.random() < _UNHEARD_SHAPE_SHARE:
            shape = UNHEARD_SHAPES[scene.shape]
        else:
            color = UNHEARD_COLORS[scene.color]
    if manner == "knowledge":
        templates, color = KNOWLEDGE.of(words), OBJECTS[scene.color]
    noun = rng.choice(shape.of(words))
    said = {
        "count": rng.choice(COUNT_WORDS[scene.count].of(words)),
        "color": rng.choice(color.of(words)),
        "shape": plural(noun) if many else noun,
        "where": rng.choice(ARRANGEMENT_WORDS[scene.arrangement].of(words)),
        "action": rng.choice(ACTION_WORDS[scene.action].of(words)),
        "be": "are" if many else "is",
        "opening": rng.choice(OPENINGS.of(words)),
    }
    if not many and rng.random() < 0.5:
        said["where"] = ""
    text = _tidy(rng.choice(templates).format(object=said["color"], **said))
    if manner == "contrast":
        text = rng.choice(CONTRASTS.of(words)).format(
            sentence=text, other=_other(scene, words, rng)
        )
    return text


def _other(scene: Scene, words: WordSet, rng: random.Random) -> str:
    """A few words of a scene that shares no count, colour, shape or action with this one."""

    def another(table: dict[Any, Words], value: object) -> tuple[Any, str]:
        key = rng.choice([key for key in table if key != value])
        return key, rng.choice(table[key].of(words))

    count, number = another(COUNT_WORDS, scene.count)
    shape = another(SHAPE_WORDS, scene.shape)[1]
    template = rng.choice(OTHERS)
    return _tidy(
        template.format(
            count=number,
            color=another(COLOR_WORDS, scene.color)[1],
            shape=shape if count == 1 and "{count}" in template else plural(shape),
            action=another(ACTION_WORDS, scene.action)[1],
        )
    )


def _pair(pair: Pair, words: WordSet, rng: random.Random, ordered: bool | None) -> str:
    if ordered is None:
        ordered = rng.random() < _ORDERED_SHARE
    template = rng.choice((ORDERED_PAIRS if ordered else PAIRS).of(words))
    a, b = pair.left, pair.right
    if not ordered and rng.random() < 0.5:
        a, b = b, a
    subject = b if "{be} {b}" in template else a
    said = {
        "a": _group(a, words, rng),
        "b": _group(b, words, rng),
        "be": "are" if subject.count > 1 else "is",
        "opening": rng.choice(OPENINGS.of(words)),
    }
    return _tidy(template.format(**said))


def _group(group: Group, words: WordSet, rng: random.Random) -> str:
    noun = rng.choice(SHAPE_WORDS[group.shape].of(words))
    count = rng.choice(COUNT_WORDS[group.count].of(words))
    color = rng.choice(COLOR_WORDS[group.color].of(words))
    return f"{count} {color} {plural(noun) if group.count > 1 else noun}"


def plural(noun: str) -> str:
    """The plural of one of the shapes' names."""
    return noun + ("es" if noun.endswith(("s", "x")) else "s")


def _tidy(text: str) -> str:
    """Mends articles, "a pair of of them", and the gaps an unsaid arrangement leaves."""
    text = re.sub(r"\bof of\b", "of", text)
    text = re.sub(r"\s+([,:])", r"\1", " ".join(text.split()))
    return re.sub(r"\ba (?=[aeiou])", "an ", text.strip(",: "))
