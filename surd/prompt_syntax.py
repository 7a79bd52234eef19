r"""What generator users write in a prompt that is not words, split off from the words.

The syntax understood, each as its users find it documented:

- AUTOMATIC1111 wiki, "Features": attention ``(words)``, ``[words]``, ``(words:1.3)``; escapes
  ``\(``; prompt editing ``[from:to:when]``; alternating words ``[cow|horse]``; composable
  diffusion ``AND``; ``BREAK``; extra networks ``<lora:name:0.8>``
- ComfyUI: ``embedding:name``
- NovelAI: ``{words}``
- Dynamic Prompts: choices ``{red|blue}`` and wildcards ``__colour__``

One pass over the tokens writes a flat list of nodes and keeps a stack of open brackets; a closing
bracket mends the few nodes whose meaning it settles. A second pass reads the nodes off. Both are
linear in the length of the text and neither recurses, so no text, however hostile, is slow.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, auto

MAX_WEIGHT = 100.0
"""A weight further from 0 is a slip of the pen, and counts as 1."""

MAX_DEPTH = 100
"""Brackets nested deeper are dropped without effect; people stop at about ten."""


@dataclass(frozen=True, slots=True)
class Network:
    """A reference to weights outside the prompt: LoRA, LyCORIS, hypernetwork or embedding."""

    kind: str
    """``lora``, ``lyco``, ``hypernet``, ``embedding``, or what an unknown tag called itself."""
    name: str
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Weighted:
    """A piece of the words, and how much attention it was given where 1 is usual."""

    text: str
    weight: float


@dataclass(frozen=True, slots=True)
class ParsedPrompt:
    """A prompt taken apart."""

    text: str
    """The words, in their order and case, free of syntax."""
    networks: tuple[Network, ...] = ()
    weights: tuple[Weighted, ...] = ()
    """Pieces whose weight, rounded to four decimals, is not 1."""
    wildcards: tuple[str, ...] = ()
    """What a template left open, as written: ``__colour__``, ``{red|blue}``."""
    segments: int = 1
    """1 + the number of ``BREAK`` and ``AND``."""


def parse(text: str) -> ParsedPrompt:
    """Take ``text`` apart; any text at all."""
    writer = _Writer(source=text)
    for node in _read(text):
        writer.write(node)
    return ParsedPrompt(
        text=_tidy("".join(writer.words)),
        networks=tuple(writer.networks),
        weights=tuple(writer.weights),
        wildcards=tuple(writer.wildcards),
        segments=writer.segments,
    )


_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)"
_IS_NUMBER = re.compile(_NUMBER, re.ASCII)
# What may stand where a weight belongs; "1,2" and "1. 2" are slips, but no words either.
_LIKE_NUMBER = re.compile(r"(?=\D*\d)[\s\d.,+-]+")
_SLIP = re.compile(r"\s*[+-]?\d*\.\d+(?=\s*(?:[,\n]|\Z))")
_TOKEN = re.compile(
    rf"""
      (?P<marks> [()\[\]{{}}|:]+ )
    | (?P<escape> \\[()\[\]{{}}<>|\\_] )
    | <(?P<kind>[^\W\d]\w*):(?P<fields>[^<>]*)>
    | <(?P<torn>(?i:lora|lyco|hypernet|embedding|ti)):(?P<torn_fields>[^<>,\s()\[\]{{}}|]*)
    | (?P<embedding> (?<!\w)(?i:embedding)
        :[^\s,()\[\]{{}}<>|:]+ (?: :{_NUMBER}(?![\w.]) )? )
    | (?P<wildcard> (?<![^\W_])__(?!\s)(?:[^\W_]|[-/*.\s]|_(?!_))+(?<!\s)__(?![^\W_]) )
    | (?P<segment> (?<![\w-])(?:BREAK|AND)(?![\w-]) )
    """,
    re.VERBOSE,
)


class _Mark(Enum):
    GAP = auto()  # syntax was here, so the words on either side are not one word
    SEGMENT = auto()
    CLOSE = auto()
    DROP = auto()  # from here to KEEP are words no longer in force at the last step
    KEEP = auto()


# Words, an opening bracket as its factor, a network, where a wildcard stands, or a mark.
_Node = str | float | Network | slice | _Mark


def _read(text: str) -> list[_Node]:
    """Turn the tokens of ``text`` into nodes."""
    reader = _Reader()
    position = 0
    for match in _TOKEN.finditer(text):
        start, stop = match.span()
        if start > position:
            reader.words(text[position:start])
        position = stop
        kind = match.lastgroup
        if kind == "marks":
            for at, mark in enumerate(match[0], start):
                reader.mark(mark, at)
        elif kind == "escape":
            reader.nodes.append(match[0][1])
        elif kind == "segment":
            reader.segment(match[0])
        elif kind == "wildcard" or match["kind"] in {"random", "wildcard"}:
            reader.nodes.append(slice(start, stop))
        elif kind == "embedding":
            reader.nodes.append(_network("embedding", match[0][len("embedding:") :]))
        elif kind == "fields":
            reader.nodes.append(_network(match["kind"], match["fields"]))
        else:
            reader.nodes.append(_network(match["torn"], match["torn_fields"]))
    if position < len(text):
        reader.words(text[position:])
    reader.end()
    return reader.nodes


_KINDS = {"embed": "embedding", "hypernetwork": "hypernet", "lycoris": "lyco", "ti": "embedding"}


def _network(kind: str, fields: str) -> _Node:
    """``name:0.8``, ``name:te:unet`` or ``name:0.8:key=value``: the first number is the weight."""
    name, *rest = (part.strip() for part in fields.split(":"))
    keyed = dict(part.split("=", 1) for part in rest if "=" in part)
    numbers = [*rest, keyed.get("te", ""), keyed.get("unet", "")]
    weight = next((_weight(number) for number in numbers if _IS_NUMBER.fullmatch(number)), 1.0)
    kind = _KINDS.get(kind.lower(), kind.lower())
    return Network(kind, name, weight) if name else _Mark.GAP


def _weight(number: str) -> float:
    weight = float(number)
    return weight if abs(weight) <= MAX_WEIGHT else 1.0


_FACTOR = {"(": 1.1, "[": 1 / 1.1, "{": 1.05}
_OPTION = ", "  # between options, which are words of their own
_OPENER = {")": "(", "]": "[", "}": "{"}


@dataclass(slots=True)
class _Bracket:
    """A bracket not closed yet."""

    opener: str
    node: int
    start: int
    options: bool = False
    """There is a ``|`` directly inside."""
    colons: tuple[int, ...] = ()
    """Nodes of the last two colons directly inside."""


@dataclass(slots=True)
class _Reader:
    """Writes nodes, and settles what a bracket meant when it closes."""

    nodes: list[_Node] = field(default_factory=list)
    stack: list[_Bracket] = field(default_factory=list)
    open: dict[str, int] = field(default_factory=lambda: dict.fromkeys(_FACTOR, 0))
    """How many brackets of each kind are in ``stack``."""
    composed: bool = False
    """An ``AND`` was seen."""

    def words(self, text: str) -> None:
        """Words, less a number at their start that was put where it weighs nothing.

        The slips are ``(cat:1.2, dog)`` and ``(cat):1.2``.
        """
        slip = _SLIP.match(text) if self.nodes[-1:] == [":"] else None
        if slip and self.weighs_nothing(before=text[slip.end() :]):
            self.nodes.pop()
            text = text[slip.end() :]
        self.nodes.append(text)

    def weighs_nothing(self, before: str) -> bool:
        """Whether ``:number`` here, with ``before`` to come, is no weight but meant as one."""
        if self.stack:
            return self.stack[-1].opener == "(" and not before.isspace() and before != ""
        return self.nodes[-2:-1] == [_Mark.CLOSE]

    def mark(self, mark: str, start: int) -> None:
        top = self.stack[-1] if self.stack else None
        if mark in _OPENER:
            self.close(_OPENER[mark], start + 1)
        elif mark in _FACTOR and len(self.stack) < MAX_DEPTH:
            self.stack.append(_Bracket(mark, len(self.nodes), start))
            self.open[mark] += 1
            self.nodes.append(_FACTOR[mark])
        elif mark in _FACTOR:
            self.leave_gap()
        elif top and mark == "|" and top.opener != "(":
            top.options = True
            if len(self.nodes) > top.node + 1:
                self.nodes.append(_OPTION)
        else:
            if top and mark == ":":
                top.colons = (*top.colons[-1:], len(self.nodes))
            self.nodes.append(mark)

    def segment(self, word: str) -> None:
        """``BREAK``, or ``AND`` with the weight of the conditioning before it, which is no word."""
        if word == "AND":
            self.composed = True
            self.cut_number()
        self.nodes.append(_Mark.SEGMENT)

    def end(self) -> None:
        while self.stack:
            self.leave_open(self.pop())
        if self.composed:
            self.cut_number()

    def close(self, opener: str, stop: int) -> None:
        """Close the nearest such bracket, and end what was left open inside it."""
        if not self.open[opener]:
            if opener == "(":
                self.cut_number()
            self.leave_gap()
            return
        while (bracket := self.pop()).opener != opener:
            self.leave_open(bracket)
        if opener == "(":
            self.end_attention(bracket)
        elif opener == "[":
            self.end_square(bracket)
        elif bracket.options:
            del self.nodes[bracket.node :]
            self.nodes.append(slice(bracket.start, stop))
        else:
            self.nodes.append(_Mark.CLOSE)

    def pop(self) -> _Bracket:
        bracket = self.stack.pop()
        self.open[bracket.opener] -= 1
        return bracket

    def leave_gap(self) -> None:
        if not self.nodes or self.nodes[-1] is not _Mark.GAP:
            self.nodes.append(_Mark.GAP)

    def leave_open(self, bracket: _Bracket) -> None:
        """A bracket nobody closed: its weight holds up to here."""
        if bracket.opener == "(":
            self.end_attention(bracket)
            return
        if bracket.options:
            self.nodes[bracket.node] = 1.0
        self.nodes.append(_Mark.CLOSE)

    def end_attention(self, bracket: _Bracket) -> None:
        """``(words)`` or ``(words:1.3)``."""
        number = self.cut_number()
        if number and _IS_NUMBER.fullmatch(number):
            self.nodes[bracket.node] = _weight(number)
        self.nodes.append(_Mark.CLOSE)

    def end_square(self, bracket: _Bracket) -> None:
        """``[words]``, ``[cow|horse]``, ``[to:when]`` or ``[from:to:when]``."""
        if bracket.options:
            self.nodes[bracket.node] = _Mark.GAP
            if self.nodes[-1] == _OPTION:
                self.nodes.pop()
        elif not self.cut_number():
            self.nodes.append(_Mark.CLOSE)
            return
        elif len(bracket.colons) == 2:
            self.nodes[bracket.node] = _Mark.DROP
            self.nodes[bracket.colons[0]] = _Mark.KEEP
        else:
            self.nodes[bracket.node] = _Mark.GAP
        self.nodes.append(_Mark.GAP)

    def cut_number(self) -> str:
        """Take ``:number`` off the end; empty when there is none.

        A colon with nothing after it goes too: all it did was to announce a number.
        """
        number = ""
        if self.nodes[-1:] != [":"]:
            last = self.nodes[-1] if self.nodes[-2:-1] == [":"] else None
            if not isinstance(last, str) or not _LIKE_NUMBER.fullmatch(last):
                return ""
            number = last.strip()
            self.nodes.pop()
        self.nodes.pop()
        if self.stack:
            top = self.stack[-1]
            top.colons = tuple(node for node in top.colons if node < len(self.nodes))
        return number


# Words on either side of syntax are set apart, unless one side is punctuation that joins them.
_JOINS = frozenset("-'\"/(")
_JOINS_LEFT = frozenset("-'\"/).,;:!?")


@dataclass(slots=True)
class _Writer:
    """Reads the nodes off into what a parsed prompt holds."""

    source: str
    words: list[str] = field(default_factory=list)
    piece: int = 0
    """Where in ``words`` the weight last changed."""
    gap: bool = False
    """There was syntax since the last words."""
    factors: list[float] = field(default_factory=lambda: [1.0])
    """The weight in force, innermost bracket last."""
    dropping: int = 0
    networks: list[Network] = field(default_factory=list)
    weights: list[Weighted] = field(default_factory=list)
    wildcards: list[str] = field(default_factory=list)
    segments: int = 1

    def write(self, node: _Node) -> None:
        if isinstance(node, str):
            if node and not self.dropping:
                self.write_words(node)
            return
        if isinstance(node, float):
            self.end_piece()
            self.factors.append(self.factors[-1] * node)
        elif isinstance(node, Network):
            self.networks.append(node)
        elif isinstance(node, slice):
            self.wildcards.append(self.source[node])
        else:
            self.write_mark(node)
        self.gap = True

    def write_words(self, words: str) -> None:
        if self.gap and self.words:
            joined = self.words[-1][-1] in _JOINS or words[0] in _JOINS_LEFT
            words = words if joined else " " + words
        self.gap = False
        self.words.append(words)

    def write_mark(self, mark: _Mark) -> None:
        if mark is _Mark.CLOSE:
            self.end_piece()
            self.factors.pop()
        elif mark is _Mark.DROP:
            self.dropping += 1
        elif mark is _Mark.KEEP:
            self.dropping -= 1
        elif mark is _Mark.SEGMENT and not self.dropping:
            self.end_piece()
            self.words.append("\n")
            self.segments += 1

    def end_piece(self) -> None:
        start, self.piece = self.piece, len(self.words)
        weight = round(self.factors[-1], 4)
        if start < self.piece and weight != 1 and abs(weight) <= MAX_WEIGHT:
            text = _tidy("".join(self.words[start:]))
            if text:
                self.weights.append(Weighted(text, weight))


_LINE_NEEDS_NO_COMMA = tuple(",.;:!?|&/-–—…，。、；：！？")
_COMMAS = re.compile(r"(?!(?<=\d),\d{3}(?!\d)) ?,[ ,]*")
_LONE_FULL_STOP = re.compile(r"(?<=\w) \.(?= |$)")


def _tidy(text: str) -> str:
    """One line, single spaces, ", " between phrases, no comma at either end.

    A line end becomes a comma where nothing else sets the phrases apart. "10,000" stays.
    """
    parts: list[str] = []
    for line in text.splitlines():
        words = " ".join(line.split())
        if parts and words:
            joined = parts[-1].endswith(_LINE_NEEDS_NO_COMMA) or words[0] in ",.;:!?"
            parts.append(" " if joined else ", ")
        if words:
            parts.append(words)
    text = _COMMAS.sub(", ", "".join(parts)).strip(" ,，")
    return _LONE_FULL_STOP.sub(".", text)
