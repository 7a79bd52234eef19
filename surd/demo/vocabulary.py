"""Two ways of speaking about a scene, as plain tables, and reading sentences back.

A complex prompt is what Stable Diffusion users type: tags of one fixed vocabulary among noise
tags, weights, brackets and LoRA tags. A simple sentence is what people say: synonyms, templates,
any word order, and often what they do not mean ("two red discs, not blue stars"), which nobody puts
among tags. Some synonyms are held out: no training sentence has them.
"""

from __future__ import annotations

import random
import re
from functools import cache
from typing import Any, Literal, NamedTuple

from surd.demo.scenes import ATTRIBUTES, Reading, Scene

WordSet = Literal["train", "heldout", "all"]


class Words(NamedTuple):
    """The ways to say one value."""

    train: tuple[str, ...]
    heldout: tuple[str, ...]

    def of(self, words: WordSet) -> tuple[str, ...]:
        """The words of one set."""
        return {"train": self.train, "heldout": self.heldout, "all": self.train + self.heldout}[
            words
        ]


# Simple sentences: what people say

COUNT_WORDS: dict[int, Words] = {
    1: Words(("a", "one", "a single"), ("a lone", "a solitary")),
    2: Words(("two", "a pair of"), ("a couple of", "a duo of")),
    3: Words(("three", "a trio of"), ("a triplet of", "a threesome of")),
    4: Words(("four", "a set of four"), ("a quartet of", "a foursome of")),
}
COLOR_WORDS: dict[str, Words] = {
    "red": Words(("red", "crimson"), ("scarlet", "ruby")),
    "yellow": Words(("yellow", "golden"), ("lemon", "amber")),
    "green": Words(("green", "emerald"), ("jade", "shamrock")),
    "cyan": Words(("cyan", "turquoise"), ("aqua", "teal")),
    "blue": Words(("blue", "navy"), ("cobalt", "sapphire")),
    "purple": Words(("purple", "violet"), ("lilac", "amethyst")),
}
SHAPE_WORDS: dict[str, Words] = {
    "circle": Words(("circle", "disc"), ("dot", "ball")),
    "square": Words(("square", "box"), ("block", "tile")),
    "triangle": Words(("triangle", "wedge"), ("pyramid", "triangular shape")),
    "star": Words(("star", "five-pointed star"), ("pentagram", "asterisk")),
    "heart": Words(("heart", "love heart"), ("valentine", "love symbol")),
}
ARRANGEMENT_WORDS: dict[str, Words] = {
    "single": Words(("alone", "by itself"), ("on its own", "in isolation")),
    "row": Words(
        ("in a row", "in a line", "side by side"), ("next to each other", "shoulder to shoulder")
    ),
    "column": Words(
        ("in a column", "one above the other", "stacked up"),
        ("in a tower", "on top of each other"),
    ),
    "diagonal": Words(("on a diagonal", "along a slant"), ("on a slope", "like a staircase")),
    "ring": Words(("in a ring", "in a loop"), ("gathered round", "in a huddle")),
}
ACTION_WORDS: dict[str, Words] = {
    "still": Words(("still", "motionless"), ("unmoving", "stationary")),
    "falling": Words(("falling", "tumbling"), ("dropping", "plunging")),
    "rolling": Words(("rolling", "trundling"), ("wheeling", "cruising")),
    "spinning": Words(("spinning", "twirling"), ("rotating", "whirling")),
    "bouncing": Words(("bouncing", "hopping"), ("springing", "jumping")),
}
IRREGULAR_PLURALS = {"box": "boxes"}

SENTENCES = (
    "{count} {color} {shape} {action} {where}",
    "{count} {action} {color} {shape} {where}",
    "{count} {color} {shape} {where}, {action}",
    "{count} {shape} {where}, {color} and {action}",
    "{count} {shape}, {color}, {action} {where}",
    "{count} {shape} in {color}, {action} {where}",
    "{where}, {count} {color} {shape} {action}",
    "{where}, {action}: {count} {color} {shape}",
    "{action} {where}, {count} {color} {shape}",
    "there {be} {count} {color} {shape} {action} {where}",
    "there {be} {count} {action} {color} {shape} {where}",
    "{opening} {count} {color} {shape} {action} {where}",
    "{opening} {count} {action} {color} {shape} {where}",
    "{opening} {count} {shape} {action} {where}, all {color}",
)
SENTENCES_FOR_MANY = (
    "{color} {shape}, {count} of them, {action} {where}",
    "{count} of them: {action} {color} {shape} {where}",
    "{where} {be} {count} {action} {color} {shape}",
)
"""Templates that make no sense of a single thing."""
OPENINGS = ("a picture of", "a drawing of", "an image showing", "i see", "draw", "show me")

CONTRASTS = (
    "{sentence}, not {other}",
    "{sentence}, and not {other}",
    "{sentence}, rather than {other}",
    "not {other} but {sentence}",
    "instead of {other}, {sentence}",
)
"""What the picture does not show, in the words of another scene."""
OTHERS = (
    "{color} {shape}",
    "{count} {color} {shape}",
    "{count} {shape}",
    "{color} {shape} {action}",
)
_CONTRAST_SHARE = 0.7
_CONTRAST = re.compile(r", (?:and not|not|rather than) [^,]*$|^not .*? but |^instead of [^,]*, ")

# Complex prompts: what Stable Diffusion users type

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


def complex_prompt(scene: Scene, *, seed: int) -> str:
    """The scene as a tag list among noise; every attribute is in it, as its tag."""
    rng = random.Random(f"complex {seed} {scene}")
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


def simple_sentence(
    scene: Scene, *, seed: int, words: WordSet = "train", contrasts: bool = True
) -> str:
    """The scene in everyday words of one set; all attributes are said.

    Only "single" may go unsaid: one thing has no arrangement. Without `contrasts` nothing is said
    of what is not shown.
    """
    rng = random.Random(f"simple {words} {seed} {scene}")
    many = scene.count > 1
    template = rng.choice(SENTENCES + SENTENCES_FOR_MANY if many else SENTENCES)
    shape = rng.choice(SHAPE_WORDS[scene.shape].of(words))
    said = {
        "count": rng.choice(COUNT_WORDS[scene.count].of(words)),
        "color": rng.choice(COLOR_WORDS[scene.color].of(words)),
        "shape": plural(shape) if many else shape,
        "where": rng.choice(ARRANGEMENT_WORDS[scene.arrangement].of(words)),
        "action": rng.choice(ACTION_WORDS[scene.action].of(words)),
        "be": "are" if many else "is",
        "opening": rng.choice(OPENINGS),
    }
    if not many and rng.random() < 0.5:
        said["where"] = ""
    if not many:
        template = template.replace(", all {color}", ", {color}")
    text = _tidy(template.format(**said))
    if contrasts and rng.random() < _CONTRAST_SHARE:
        text = rng.choice(CONTRASTS).format(sentence=text, other=_other(scene, words, rng))
    return text[0].upper() + text[1:] + "." if rng.random() < 0.3 else text


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


def plural(noun: str) -> str:
    """The plural of one of the shapes' names."""
    return IRREGULAR_PLURALS.get(noun, noun + "s")


def _tidy(text: str) -> str:
    """Mends articles, "a pair of of them", and the gaps an unsaid arrangement leaves."""
    text = re.sub(r"\bof of\b", "of", text)
    text = re.sub(r"\s+([,:])", r"\1", " ".join(text.split()))
    return re.sub(r"\ba (?=[aeiou])", "an ", text.strip(",: "))


def read_sentence(text: str) -> Reading:
    """Reads a sentence, in any word order and of either set of words, back to its scene.

    What follows "not", "instead of" and the like is not said of the scene. An attribute that is
    not said, or said in two ways that differ, is None. One thing is "single" whether that is said
    or not. "a" counts one thing only before a noun in the singular and where nothing else counts.
    """
    said: dict[str, set[Any]] = {}
    affirmed = _CONTRAST.sub("", text.lower().rstrip("."))
    for phrase in _phrases().findall(affirmed):
        for attribute, value in _lexicon()[phrase]:
            said.setdefault(attribute, set()).add(value)
    if "count" not in said and said.get("number") == {"one"} and "article" in said:
        said["count"] = {1}
    if said.get("count") == {1}:
        said["arrangement"] = {"single"}
    return Reading(
        **{name: next(iter(said[name])) for name in ATTRIBUTES if len(said.get(name, ())) == 1}
    )


@cache
def _lexicon() -> dict[str, tuple[tuple[str, object], ...]]:
    """What each phrase says, as (attribute, value) pairs; openings say nothing."""
    lexicon: dict[str, tuple[tuple[str, object], ...]] = dict.fromkeys(OPENINGS, ())
    for count, count_words in COUNT_WORDS.items():
        for phrase in (*count_words.of("all"), str(count)):
            lexicon[phrase] = (("count", count),)
    for color, color_words in COLOR_WORDS.items():
        lexicon |= dict.fromkeys(color_words.of("all"), (("color", color),))
    for shape, shape_words in SHAPE_WORDS.items():
        for noun in shape_words.of("all"):
            lexicon[noun] = (("shape", shape), ("number", "one"))
            lexicon[plural(noun)] = (("shape", shape), ("number", "many"))
    for place, place_words in ARRANGEMENT_WORDS.items():
        lexicon |= dict.fromkeys(place_words.of("all"), (("arrangement", place),))
    for action, action_words in ACTION_WORDS.items():
        lexicon |= dict.fromkeys(action_words.of("all"), (("action", action),))
    lexicon |= dict.fromkeys(("a", "an"), (("article", "a"),))
    return lexicon


@cache
def _phrases() -> re.Pattern[str]:
    """Matches the longest phrase of the lexicon at each place."""
    longest_first = sorted(_lexicon(), key=len, reverse=True)
    return re.compile(r"\b(?:" + "|".join(map(re.escape, longest_first)) + r")\b")
