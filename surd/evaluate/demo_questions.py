"""Prompts about scenes that nothing of the demo was trained on, with what the judge is asked."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import cache

from surd.demo.scenes import (
    ATTRIBUTES,
    Attribute,
    Scene,
    Split,
    all_pairs,
    all_scenes,
    split_of,
)
from surd.demo.sentences import Manner, can_say, simple_sentence
from surd.demo.tags import complex_prompt
from surd.demo.words import WordSet
from surd.errors import SurdError
from surd.evaluate.prompt import Prompt, Question
from surd.text.prompt_syntax import parse

MANNER_OF: dict[str, Manner] = {
    "demo:plain": "plain",
    "demo:unheard": "unheard",
    "demo:knowledge": "knowledge",
    "demo:contrasts": "contrast",
}
ORDER_OF = {"demo:binding": False, "demo:order": True}
"""Sets of pairs: whether the sentence says which group is to the left."""
COMPLEX = "demo:complex"
SETS = (*MANNER_OF, *ORDER_OF, COMPLEX)
"""Simple sentences of each kind, in test words and templates, and tags as the base model knows
them; with ``-validation`` behind the name, scenes, words and templates of the validation."""
VALIDATION = "-validation"
SCENES = 200
KINDS: dict[str, tuple[Attribute, ...]] = {
    "all right": ("count", "color", "shape"),
    **{attribute: (attribute,) for attribute in ATTRIBUTES},
}


def demo_prompts(name: str) -> list[Prompt]:
    """One of SETS: every prompt once for each kind, so that its pictures are judged by each.

    Raises SurdError.
    """
    what = name.removesuffix(VALIDATION)
    if what not in SETS:
        raise SurdError(f"{name}: no such prompt set; sets: {', '.join(SETS)}")
    split: Split = "validation" if name.endswith(VALIDATION) else "test"
    return [prompt for seed in range(SCENES) for prompt in _prompts(what, split, seed)]


def _prompts(name: str, split: Split, seed: int) -> Iterator[Prompt]:
    rng = random.Random(f"{name} {split} {seed}")
    words: WordSet = split if split == "validation" else "test"
    if name in ORDER_OF:
        pair, ordered = rng.choice(all_pairs(split)), ORDER_OF[name]
        text = simple_sentence(pair, seed=seed, words=words, ordered=ordered)
        groups = Question("pair", pair.pair) if ordered else Question("groups", pair.groups)
        yield Prompt(text, "all right", (groups,), about=groups.answer)
        return
    manner = MANNER_OF.get(name)
    kinds = _held_out(split, manner)
    scene = rng.choice(kinds[seed % len(kinds)])
    text = (
        parse(complex_prompt(scene, seed=seed)).text
        if manner is None
        else simple_sentence(scene, seed=seed, words=words, manner=manner)
    )
    about = " ".join(str(getattr(scene, attribute)) for attribute in ATTRIBUTES)
    for kind, attributes in KINDS.items():
        asked = tuple(Question(a, str(getattr(scene, a))) for a in attributes)
        yield Prompt(text, kind, asked, about=about)


@cache
def _held_out(split: Split, manner: Manner | None) -> list[list[Scene]]:
    """The scenes of a split, by count, colour and shape together, in no particular order."""
    kinds: dict[tuple[object, ...], list[Scene]] = {}
    for scene in all_scenes():
        if split_of(scene) == split and (manner is None or can_say(scene, manner)):
            kinds.setdefault((scene.count, scene.color, scene.shape), []).append(scene)
    shuffled = list(kinds.values())
    random.Random(f"{split} {manner}").shuffle(shuffled)
    return shuffled
