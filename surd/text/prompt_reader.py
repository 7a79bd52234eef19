"""From the text of a prompt to a flat list of nodes: words, weights, networks, wildcards, marks.

One pass over the tokens writes the nodes and keeps a stack of open brackets; a closing bracket
mends the few nodes whose meaning it settles. :mod:`surd.text.prompt_syntax` lists the syntax.
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


class Mark(Enum):
    """A node that is a turning point of the text and holds nothing itself."""

    GAP = auto()  # syntax was here, so the words on either side are not one word
    SEGMENT = auto()
    CLOSE = auto()
    DROP = auto()  # from here to KEEP are words no longer in force at the last step
    KEEP = auto()


# Words, an opening bracket as its factor, a network, where a wildcard stands, or a mark.
Node = str | float | Network | slice | Mark

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


def read(text: str) -> list[Node]:
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


def _network(kind: str, fields: str) -> Node:
    """``name:0.8``, ``name:te:unet`` or ``name:0.8:key=value``: the first number is the weight."""
    name, *rest = (part.strip() for part in fields.split(":"))
    keyed = dict(part.split("=", 1) for part in rest if "=" in part)
    numbers = [*rest, keyed.get("te", ""), keyed.get("unet", "")]
    weight = next((_weight(number) for number in numbers if _IS_NUMBER.fullmatch(number)), 1.0)
    kind = _KINDS.get(kind.lower(), kind.lower())
    return Network(kind, name, weight) if name else Mark.GAP


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

    nodes: list[Node] = field(default_factory=list)
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
        return self.nodes[-2:-1] == [Mark.CLOSE]

    def mark(self, mark: str, start: int) -> None:
        top = self.stack[-1] if self.stack else None
        if mark in _OPENER:
            self.close(_OPENER[mark], start + 1)
        elif mark in _FACTOR and len(self.stack) < MAX_DEPTH:
            self.stack.append(_Bracket(mark, len(self.nodes), start))
            self.open[mark] += 1
            self.nodes.append(_FACTOR[mark])
        elif mark in _FACTOR:
            self.nodes.append(Mark.GAP)
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
        self.nodes.append(Mark.SEGMENT)

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
            self.nodes.append(Mark.GAP)
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
            self.nodes.append(Mark.CLOSE)

    def pop(self) -> _Bracket:
        bracket = self.stack.pop()
        self.open[bracket.opener] -= 1
        return bracket

    def leave_open(self, bracket: _Bracket) -> None:
        """A bracket nobody closed: its weight holds up to here."""
        if bracket.opener == "(":
            self.end_attention(bracket)
            return
        if bracket.options:
            self.nodes[bracket.node] = 1.0
        self.nodes.append(Mark.CLOSE)

    def end_attention(self, bracket: _Bracket) -> None:
        """``(words)`` or ``(words:1.3)``."""
        number = self.cut_number()
        if number and _IS_NUMBER.fullmatch(number):
            self.nodes[bracket.node] = _weight(number)
        self.nodes.append(Mark.CLOSE)

    def end_square(self, bracket: _Bracket) -> None:
        """``[words]``, ``[cow|horse]``, ``[to:when]`` or ``[from:to:when]``."""
        if bracket.options:
            self.nodes[bracket.node] = Mark.GAP
            if self.nodes[-1] == _OPTION:
                self.nodes.pop()
        elif not self.cut_number():
            self.nodes.append(Mark.CLOSE)
            return
        elif len(bracket.colons) == 2:
            self.nodes[bracket.node] = Mark.DROP
            self.nodes[bracket.colons[0]] = Mark.KEEP
        else:
            self.nodes[bracket.node] = Mark.GAP
        self.nodes.append(Mark.GAP)

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
