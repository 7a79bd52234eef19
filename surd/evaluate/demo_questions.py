"""Prompts about scenes that nothing of the demo was trained on, with what the judge is asked."""

from __future__ import annotations

import random

from surd.demo.scenes import ATTRIBUTES, Attribute, Scene, all_scenes, split_of
from surd.demo.vocabulary import WordSet, complex_prompt, simple_sentence
from surd.errors import SurdError
from surd.evaluate.prompt import Prompt, Question
from surd.text.prompt_syntax import parse

SETS = ("demo:simple", "demo:heldout", "demo:complex")
"""Plain sentences, the same in words never trained on, and the tags the base model was taught."""

SCENES = 200
KINDS: dict[str, tuple[Attribute, ...]] = {
    "all right": ("count", "color", "shape"),
    **{attribute: (attribute,) for attribute in ATTRIBUTES},
}


def demo_prompts(name: str) -> list[Prompt]:
    """One of SETS: every prompt once for each kind, so that its pictures are judged by each.

    Raises SurdError.
    """
    if name not in SETS:
        raise SurdError(f"{name}: no such prompt set; sets: {', '.join(SETS)}")
    rng = random.Random("questions")
    held_out = [scene for scene in all_scenes() if split_of(scene) == "test"]
    scenes = [rng.choice(held_out) for _ in range(SCENES)]
    return [
        Prompt(
            text,
            kind,
            tuple(Question(a, str(getattr(scene, a))) for a in attributes),
            about=" ".join(str(getattr(scene, attribute)) for attribute in ATTRIBUTES),
        )
        for number, scene in enumerate(scenes)
        for text in [_said(name, scene, number)]
        for kind, attributes in KINDS.items()
    ]


def _said(name: str, scene: Scene, seed: int) -> str:
    if name == "demo:complex":
        return parse(complex_prompt(scene, seed=seed)).text
    words: WordSet = "heldout" if name == "demo:heldout" else "train"
    return simple_sentence(scene, seed=seed, words=words)
