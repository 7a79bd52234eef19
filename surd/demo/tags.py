"""Complex prompts: what Stable Diffusion users type.

Tags of one fixed vocabulary among noise tags, weights, brackets and LoRA tags.
"""

from __future__ import annotations

import random

from surd.demo.scenes import Pair, Scene

ARRANGEMENT_TAGS = {
    "single": "solo",
    "row": "row",
    "column": "column",
    "diagonal": "diagonal",
    "ring": "ring",
}
"""Tags of the other attributes are their values' names, as in "3 circle, red, falling"."""
SUBJECTS = (
    ("{count} {shape}", "{color}"),
    ("{count} {color} {shape}",),
    ("{count} {shape}", "{color} {shape}"),
)
DRESSES = ("{}", "{}", "{}", "{}", "({}:1.2)", "({}:1.3)", "(({}))", "({})", "[{}]", "{{{}}}")
NESTED_DRESSES = ("(({}:1.1))", "([{}]:1.4)", "((({})))")
QUALITY_TAGS = (
    "masterpiece",
    "best quality",
    "high quality",
    "highres",
    "absurdres",
    "8k",
    "ultra detailed",
    "award winning",
    "official art",
)
STYLE_TAGS = (
    "flat vector",
    "vector art",
    "paper cutout",
    "minimalist",
    "simple background",
    "pastel background",
    "soft light",
    "studio lighting",
    "sharp focus",
    "crisp edges",
    "children book illustration",
    "trending on artstation",
)
EXTRA_TAGS = (
    "<lora:clean:0.6>",
    "<lora:flat_vector_v2:0.8>",
    "<lora:papercut-sd15:0.45>",
    "<lora:add_detail:1>",
    "<lyco:minimal:0.7>",
    "<hypernet:crispy:0.5>",
)
NEGATIVE_TAGS = (
    "lowres",
    "(worst quality:1.4)",
    "(low quality:1.4)",
    "normal quality",
    "blurry",
    "jpeg artifacts",
    "watermark",
    "signature",
    "text",
    "logo",
    "cropped",
    "out of frame",
    "bad proportions",
    "ugly",
    "3d render",
    "photo",
    "EasyNegative",
    "bad-picture-chill-75v",
)


def complex_prompt(scene: Scene | Pair, *, seed: int) -> str:
    """The scene as a tag list among noise; every attribute is in it, as its tag."""
    rng = random.Random(f"complex {seed} {scene}")
    if isinstance(scene, Pair):
        subject = [f"{scene.left} left", f"{scene.right} right"]
        rng.shuffle(subject)
        rest = []
    else:
        subject = [part.format(**vars(scene)) for part in rng.choice(SUBJECTS)]
        rest = [ARRANGEMENT_TAGS[scene.arrangement], scene.action]
        rng.shuffle(rest)
    tags = [_dressed(tag, rng) for tag in subject + rest]
    quality = rng.sample(QUALITY_TAGS, rng.randint(1, 3))
    style = [_dressed(tag, rng) for tag in rng.sample(STYLE_TAGS, rng.randint(1, 3))]
    groups = [quality, tags, style]
    if rng.random() < 0.35:
        rng.shuffle(groups)
    if rng.random() < 0.2:
        groups = [[tag for group in groups for tag in group]]
        rng.shuffle(groups[0])
    if rng.random() < 0.5:
        rng.choice(groups).append(rng.choice(EXTRA_TAGS))
    comma = "," if rng.random() < 0.1 else ", "
    joiner = " BREAK " if rng.random() < 0.12 else comma
    return joiner.join(comma.join(group) for group in groups)


def _dressed(tag: str, rng: random.Random) -> str:
    return rng.choice(NESTED_DRESSES if rng.random() < 0.06 else DRESSES).format(tag)


def negative_prompt(seed: int) -> str:
    """What users ask not to get; now and then nothing."""
    rng = random.Random(f"negative {seed}")
    if rng.random() < 0.12:
        return ""
    return ", ".join(rng.sample(NEGATIVE_TAGS, rng.randint(3, 9)))
