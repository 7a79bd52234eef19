"""The words and templates of simple sentences, as plain tables.

Each table has words for training, for validation and for the test. Three kinds of words say the
same in different ways:

- plain ones, which every model of the demo but its captioner knows in full;
- unheard ones, which the diffusion model's text encoder never read;
- things that are known for their colour, of which it never read either.

The captioner says words for training alone, and so an adapter is taught no others.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

WordSet = Literal["train", "validation", "test", "all"]


class Words(NamedTuple):
    """The ways to say one thing."""

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()

    def of(self, words: WordSet) -> tuple[str, ...]:
        """Those of one set."""
        if words == "all":
            return self.train + self.validation + self.test
        return {"train": self.train, "validation": self.validation, "test": self.test}[words]


COUNT_WORDS: dict[int, Words] = {
    1: Words(("a", "one", "a single"), ("a lone",), ("a solitary",)),
    2: Words(("two", "a pair of"), ("a couple of",), ("a duo of",)),
    3: Words(("three", "a trio of"), ("a triplet of",), ("a threesome of",)),
    4: Words(("four", "a set of four"), ("a quartet of",), ("a foursome of",)),
}
COLOR_WORDS: dict[str, Words] = {
    "red": Words(("red", "crimson"), ("scarlet",), ("ruby",)),
    "orange": Words(("orange", "tangerine"), ("amber",), ("apricot",)),
    "yellow": Words(("yellow", "golden"), ("lemon",), ("sunny",)),
    "green": Words(("green", "emerald"), ("jade",), ("verdant",)),
    "cyan": Words(("cyan", "turquoise"), ("aqua",), ("teal",)),
    "blue": Words(("blue", "navy"), ("cobalt",), ("sapphire",)),
    "purple": Words(("purple", "violet"), ("lilac",), ("amethyst",)),
    "pink": Words(("pink", "rosy"), ("fuchsia",), ("blush",)),
}
SHAPE_WORDS: dict[str, Words] = {
    "circle": Words(("circle", "disc"), ("dot",), ("ball",)),
    "square": Words(("square", "box"), ("four-sided box",), ("square shape",)),
    "triangle": Words(("triangle", "wedge"), ("trigon",), ("triangular shape",)),
    "star": Words(("star", "pointed star"), ("five-pointed star",), ("starry shape",)),
    "heart": Words(("heart", "love heart"), ("lovely heart",), ("heart shape",)),
    "cross": Words(("cross", "plus"), ("cross mark",), ("plus mark",)),
    "moon": Words(("moon", "crescent moon"), ("half moon",), ("new moon",)),
    "diamond": Words(("diamond", "rhomb"), ("diamond tile",), ("diamond shape",)),
}
ARRANGEMENT_WORDS: dict[str, Words] = {
    "single": Words(("alone", "by itself"), ("on its own",), ("in isolation",)),
    "row": Words(
        ("in a row", "in a line", "side by side"),
        ("next to each other",),
        ("shoulder to shoulder",),
    ),
    "column": Words(
        ("in a column", "one above the other", "stacked up"),
        ("in a tower",),
        ("on top of each other",),
    ),
    "diagonal": Words(("on a diagonal", "along a slant"), ("on a slope",), ("like a staircase",)),
    "ring": Words(("in a ring", "in a loop"), ("gathered round",), ("in a huddle",)),
}
ACTION_WORDS: dict[str, Words] = {
    "still": Words(("still", "motionless"), ("unmoving",), ("stationary",)),
    "falling": Words(("falling", "tumbling"), ("dropping",), ("plunging",)),
    "rolling": Words(("rolling", "trundling"), ("wheeling",), ("cruising",)),
    "spinning": Words(("spinning", "twirling"), ("rotating",), ("whirling",)),
    "bouncing": Words(("bouncing", "hopping"), ("springing",), ("jumping",)),
}

# What the diffusion model's text encoder never read

UNHEARD_COLORS: dict[str, Words] = {
    "red": Words(("maroon", "vermilion", "carmine"), ("burgundy",), ("cherry", "garnet")),
    "orange": Words(("pumpkin", "marmalade", "rusty"), ("ginger",), ("carrot", "terracotta")),
    "yellow": Words(("canary", "buttery", "flaxen"), ("blonde",), ("banana", "straw")),
    "green": Words(("olive", "mint", "grassy"), ("mossy",), ("lime", "leafy")),
    "blue": Words(("azure", "ultramarine", "cornflower"), ("indigo",), ("cerulean", "denim")),
    "purple": Words(("mauve", "plum", "orchid"), ("lavender",), ("aubergine", "mulberry")),
    "pink": Words(("salmon", "bubblegum", "magenta"), ("peony",), ("flamingo", "candyfloss")),
}
UNHEARD_SHAPES: dict[str, Words] = {
    "circle": Words(("orb", "sphere"), ("globe",), ("bubble", "coin")),
    "square": Words(("cube", "crate"), ("block",), ("tile", "slab")),
    "triangle": Words(("pyramid",), ("cone",), ("arrowhead",)),
    "star": Words(("pentagram",), ("asterisk",), ("pentacle",)),
    "heart": Words(("valentine",), ("love symbol",), ("cupid's symbol",)),
    "cross": Words(("plus sign", "crucifix"), ("addition sign",), ("medical sign",)),
    "moon": Words(("crescent",), ("sickle",), ("lunar shape",)),
    "diamond": Words(("rhombus",), ("kite",), ("lozenge",)),
}
OBJECTS: dict[str, Words] = {
    "red": Words(
        (
            "a strawberry",
            "a stop sign",
            "blood",
            "a raspberry",
            "a pomegranate",
            "the planet Mars",
            "a boiled crab",
            "a holly berry",
            "a matador's cape",
            "tomato soup",
            "the Chinese flag",
            "a boxing glove",
            "salsa",
            "a devil",
            "a lobster",
            "a poppy",
        ),
        (
            "a chili pepper",
            "a fire hydrant",
            "a Christmas stocking",
        ),
        (
            "a ripe tomato",
            "a fire engine",
            "a Ferrari",
            "a brick",
            "a cranberry",
            "Santa's coat",
            "a wine stain",
        ),
    ),
    "yellow": Words(
        (
            "the sun",
            "a canary",
            "butter",
            "a daffodil",
            "mustard",
            "a dandelion",
            "a corn cob",
            "a highlighter pen",
            "a goldfinch",
            "sulphur",
            "pollen",
            "Tweety Bird",
            "a taxi",
            "custard",
            "a pineapple",
            "a buttercup",
        ),
        (
            "a daisy's centre",
            "a wasp",
        ),
        (
            "a sunflower",
            "a school bus",
            "an egg yolk",
            "a lemon tart",
            "a post-it note",
            "a New York cab",
        ),
    ),
    "green": Words(
        (
            "grass",
            "a frog",
            "spinach",
            "broccoli",
            "a cactus",
            "a lettuce leaf",
            "a fern",
            "kale",
            "a pine tree",
            "seaweed",
            "celery",
            "parsley",
            "a lawn",
            "a cabbage",
            "a caterpillar",
            "an iguana",
            "a palm tree",
            "pesto",
            "asparagus",
            "a turtle",
            "basil",
            "ivy",
            "bamboo",
            "an alligator",
        ),
        (
            "a Brussels sprout",
            "a toad",
            "a gherkin",
        ),
        (
            "a cucumber",
            "a grasshopper",
            "an avocado",
            "a Christmas tree",
            "a forest",
            "a kiwi fruit",
            "Shrek",
        ),
    ),
    "blue": Words(
        (
            "the ocean",
            "jeans",
            "a dolphin",
            "a peacock",
            "the planet Neptune",
            "a police uniform",
            "a smurf",
            "ink",
            "the Facebook logo",
            "the Greek flag",
            "a whale",
            "a river",
            "a swimming pool",
            "water",
            "a raindrop",
            "the Pacific",
            "a kingfisher",
            "a swordfish",
            "the Twitter bird",
            "a glacier",
            "Dory the fish",
            "a clear lagoon",
        ),
        (
            "Cookie Monster",
            "a jellyfish",
        ),
        (
            "a summer sky",
            "lapis lazuli",
            "a lake",
            "a sailor's uniform",
            "a morpho butterfly",
            "the sea",
            "Doraemon",
        ),
    ),
    "purple": Words(
        (
            "a plum",
            "grape juice",
            "a beetroot",
            "a fig",
            "an orchid",
            "a royal robe",
            "wisteria",
            "a passion fruit",
            "a crocus",
            "heather",
            "grape jelly",
            "a pansy",
            "an emperor's toga",
            "an acai bowl",
            "a thistle",
            "a blackberry",
            "a sea urchin",
            "Thanos",
            "an eggplant",
            "an allium",
        ),
        (
            "an elderberry",
            "grape soda",
        ),
        (
            "a blackcurrant",
            "a petunia",
            "a king's cloak",
            "a wizard's robe",
            "a Concord grape",
            "a bishop's robe",
        ),
    ),
    "pink": Words(
        (
            "bubblegum",
            "cotton candy",
            "a pig",
            "a prawn",
            "a tongue",
            "a ballet slipper",
            "a strawberry milkshake",
            "a carnation",
            "Himalayan salt",
            "a magnolia",
            "a newborn baby",
            "a princess dress",
            "strawberry ice cream",
            "a lotus flower",
            "a rose petal",
            "a kitten's nose",
            "gums",
            "raw chicken",
            "Peppa Pig",
            "an azalea",
            "a tulip",
            "ham",
        ),
        (
            "a piglet",
            "strawberry yogurt",
        ),
        (
            "Barbie's dress",
            "a shrimp",
            "rose quartz",
            "a piggy bank",
            "a baby girl's blanket",
            "a rabbit's nose",
            "Miss Piggy",
        ),
    ),
}
"""Things known for their colour. Nearly all are among those whose colour SmolLM2-135M, the demo's
language model, finds likeliest or second likeliest of the six when asked: it does not know many."""

# Templates

SENTENCES = Words(
    (
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
    ),
    (
        "{count} {color} {shape} {where} and {action}",
        "{opening} {count} {shape}, {action} {where}, {color}",
    ),
    (
        "here {be} {count} {color} {shape}, {action} {where}",
        "{where} you see {count} {action} {color} {shape}",
        "{action}, {count} {shape} {where}, coloured {color}",
    ),
)
SENTENCES_FOR_MANY = Words(
    (
        "{color} {shape}, {count} of them, {action} {where}",
        "{count} of them: {action} {color} {shape} {where}",
        "{where} {be} {count} {action} {color} {shape}",
        "{opening} {count} {shape} {action} {where}, all {color}",
    ),
    ("{shape} in {color}, {count} of them, {where}, {action}",),
    ("{action} {shape} {where}, {count} of them, each {color}",),
)
"""Templates that make no sense of a single thing."""
KNOWLEDGE = Words(
    (
        "{count} {shape} the colour of {object} {action} {where}",
        "{count} {shape} {action} {where}, the colour of {object}",
        "{where}, {count} {action} {shape} the colour of {object}",
        "{count} {action} {shape} {where}, in the colour of {object}",
        "{opening} {count} {shape} {action} {where}, coloured like {object}",
        "there {be} {count} {shape} {action} {where}, coloured like {object}",
    ),
    (
        "{count} {shape} with the colour of {object} {where}, {action}",
        "{action} {where}, {count} {shape} coloured like {object}",
    ),
    (
        "{count} {action} {shape} {where}, painted the colour of {object}",
        "the same colour as {object}: {count} {action} {shape} {where}",
        "{count} {shape} coloured like {object}, {action} {where}",
    ),
)
"""Templates that say the colour by a thing that is known for it."""
OPENINGS = Words(
    ("a picture of", "a drawing of", "an image showing", "i see", "draw", "show me"),
    ("an illustration of", "paint"),
    ("a sketch of", "imagine"),
)
CONTRASTS = Words(
    (
        "{sentence}, not {other}",
        "{sentence}, and not {other}",
        "{sentence}, rather than {other}",
        "not {other} but {sentence}",
        "instead of {other}, {sentence}",
    ),
    ("{sentence}, instead of {other}", "{sentence}, never {other}"),
    ("rather than {other}, {sentence}", "{sentence} instead of {other}", "{sentence}, no {other}"),
)
"""What the picture does not show, in the words of another scene."""
OTHERS = (
    "{color} {shape}",
    "{count} {color} {shape}",
    "{count} {shape}",
    "{color} {shape} {action}",
)
PAIRS = Words(
    (
        "{a} and {b}",
        "{a} next to {b}",
        "{a} beside {b}",
        "{opening} {a} and {b}",
        "there {be} {a} and {b}",
    ),
    ("{a} with {b}",),
    ("{a} together with {b}", "{a} as well as {b}", "{a} along with {b}"),
)
"""Templates of two groups that do not say which is where."""
ORDERED_PAIRS = Words(
    (
        "{a} to the left of {b}",
        "{b} to the right of {a}",
        "{a} on the left and {b} on the right",
        "{b} on the right, {a} on the left",
        "{opening} {a} left of {b}",
        "{opening} {b} right of {a}",
    ),
    ("to the left of {b} {be} {a}", "on the left {a}, on the right {b}"),
    (
        "to the right of {a} {be} {b}",
        "{a} with {b} to the right",
        "{b} with {a} to the left",
        "on the right {b}, on the left {a}",
    ),
)
"""Templates of two groups that say which is where; {a} is to the left."""
