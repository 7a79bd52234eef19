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
# ":(" and its like, which open nothing
_FACE = r"(?P<face> (?<![^\s,]) [:;=]['’]?-?[()\[\]{}] (?=[\s,]|\Z) )"
# "name_(series)" is a tag of one word, brackets and all
_TAG = r"(?P<tag> (?<=[^\W_]_) \([^()\[\]{}<>:|\\,\n]{1,60}\) (?![\w(]) )"
_SEGMENT = (
    r"(?P<segment> (?<![\w-])"
    r"(?:BREAK|AND(?:_PERP|_SALT|_TOPK)?|ADD(?:COMM|COL|ROW|BASE)) (?![\w-]) )"
)
# Midjourney's, also where "--" has been made a dash
_FLAG = r"""
    (?P<flag> (?<!\S)(?:--|[—–])(?:
        no[ ]+(?:(?![ ](?:--|[—–]))[^\n])+
      | (?:tile|raw|hd|fast|relax|turbo|video|draft|creative|test|testp|upbeta|uplight)(?![\w-])
      | (?:niji|p|profile)(?:[ ]+[\w]*\d[\w.]*)?(?![\w-])
      | (?:ar|aspect|v|version|s|stylize|style|c|chaos|q|quality|seed|sameseed|stop|iw|w|h|weird|r
          |repeat|sref|cref|oref|sw|cw|ow|exp|sv|motion)[ ]+(?!--)[^\s,]+
    ) )
"""
_COMMON = rf"""
      {_FACE} | {_TAG} | {_SEGMENT} | {_FLAG}
    | (?P<variable> \$\{{ )
    | (?P<escape> \\[()\[\]{{}}<>|\\_] )
    | <(?P<kind>[^\W\d]\w*):(?P<fields>[^<>]*)>
    | <(?P<torn>(?i:lora|lyco|hypernet|embedding|ti)):(?P<torn_fields>[^<>,\s()\[\]{{}}|]*)
    | (?P<embedding> (?<!\w)(?i:embedding)
        :[^\s,()\[\]{{}}<>|:]+ (?: :{_NUMBER}(?![\w.]) )? )
    | (?P<wildcard> (?<![^\W_])__(?!\s)(?:[^\W_]|[-/*.\s]|_(?!_))+(?<!\s)__(?![^\W_]) )
"""


@dataclass(frozen=True, slots=True)
class Syntax:
    """What a generator understands in a prompt."""

    token: re.Pattern[str]
    factors: dict[str, float] = field(
        default_factory=lambda: {"(": 1.1, "[": 1 / 1.1, "{": 1.05, "::": 1.0}
    )
    """An opening bracket -> what it weighs without a number."""


def _syntax(
    own: str = "", *, marks: str = r"()\[\]{}|:", factors: dict[str, float] | None = None
) -> Syntax:
    token = re.compile(rf"{own} {_COMMON} | (?P<marks> [{marks}]+ )", re.VERBOSE)
    return Syntax(token, Syntax(token).factors | (factors or {}))


A1111 = _syntax()
SYNTAX = {
    # compel: (words)++, word--, (words)1.3, (words).swap(others)
    "InvokeAI": _syntax(
        r"""
        (?P<swap> \)\.swap\([ ]*"? | (?:"[^"]*"|(?<![\w"])\w{1,60})\.swap\([ ]*"? )
      | (?P<option> ,[ ]*(?:[st]_start|[st]_end|shape_freedom)[ ]*=[ ]*[\d.]+
          | "(?=[ ]*(?:\)|,[ ]*[st]_)) )
      | \)(?P<power> \+{1,9} | -{1,9} | \d{0,3}\.?\d{1,5} )(?![\w+-])
      | (?P<stressed> (?<![\w'-])\w(?:[\w']|-(?=\w)){0,60} )
        (?P<stress> \+{1,9} | -{1,9} )(?![\w+-])
      |
        """,
        factors={"(": 1.0, "[": 1.0, "{": 1.0},
    ),
    # 1.3::words::, {words}, [words], ||this|or that||; parentheses are words
    "NovelAI": _syntax(
        rf"""
        (?P<choice> \|\|(?:[^|]|\|(?!\|))*\|\| )
      | (?P<weight> (?<![\w.]){_NUMBER}(?=::) )::
      | (?P<weight_end> :: )
      | (?P<pipe> \| )
      |
        """,
        marks=r"\[\]{}:",
        factors={"[": 1 / 1.05},
    ),
    "SwarmUI": _syntax(r"(?P<kept> \ue000\d{1,9}\ue001 ) |"),
    "Midjourney": _syntax(rf"(?P<part> ::(?:{_NUMBER})? ) | (?P<url> (?<!\S)https?://\S+ ) |"),
}
"""Names of generators, as the settings have them -> what they understand; any other A1111's."""


def read(text: str, syntax: Syntax = A1111) -> list[Node]:
    """Turn the tokens of ``text`` into nodes."""
    reader = _Reader(factors=syntax.factors)
    position = 0
    for match in syntax.token.finditer(text):
        start, stop = match.span()
        if start > position:
            reader.words(text[position:start])
        position = stop
        _TOKENS.get(str(match.lastgroup), _Reader.token)(reader, match)
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

    factors: dict[str, float]
    nodes: list[Node] = field(default_factory=list)
    stack: list[_Bracket] = field(default_factory=list)
    open: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("(", "[", "{", "::"), 0))
    """How many brackets of each kind are in ``stack``."""
    composed: bool = False
    """An ``AND`` was seen."""

    def token(self, match: re.Match[str]) -> None:
        """A token that is nothing but marks, words, or syntax without a meaning here."""
        if match.lastgroup == "marks":
            for at, mark in enumerate(match[0], match.start()):
                self.mark(mark, at)
        else:
            self.nodes.append(Mark.GAP)

    def word_token(self, match: re.Match[str]) -> None:
        self.nodes.append(match[0] if match.lastgroup == "tag" else match[0][1])

    def wildcard_token(self, match: re.Match[str]) -> None:
        self.nodes.append(slice(*match.span()))

    def network_token(self, match: re.Match[str]) -> None:
        if match.lastgroup == "embedding":
            self.nodes.append(_network("embedding", match[0][len("embedding:") :]))
        elif match["kind"] in {"random", "wildcard"}:
            self.wildcard_token(match)
        else:
            name = match["fields"] if match["kind"] else match["torn_fields"]
            self.nodes.append(_network(match["kind"] or match["torn"], name))

    def segment_token(self, match: re.Match[str]) -> None:
        self.segment(match[0])

    def face_token(self, match: re.Match[str]) -> None:
        """A face, unless it closes a bracket that is open."""
        if self.open.get(_OPENER.get(match[0][-1], ""), 0):
            for at, mark in enumerate(match[0], match.start()):
                if mark in ":()[]{}":
                    self.mark(mark, at)
        else:
            self.nodes.append(Mark.GAP)

    def variable_token(self, match: re.Match[str]) -> None:
        """``${colour=red}`` or ``${colour}``: a template's, as a whole."""
        self.begin("{", match.start(), options=True)

    def power_token(self, match: re.Match[str]) -> None:
        """``)++``, which closes a bracket and says what it weighs."""
        if self.open["("]:
            while (bracket := self.pop()).opener != "(":
                self.leave_open(bracket)
            self.nodes[bracket.node] = _power(match["power"])
            self.nodes.append(Mark.CLOSE)
        else:
            self.nodes.append(Mark.GAP)

    def stress_token(self, match: re.Match[str]) -> None:
        self.nodes += [_power(match["stress"]), match["stressed"], Mark.CLOSE]

    def swap_token(self, match: re.Match[str]) -> None:
        """``(words).swap(others)``: the words in force at the last step are the others."""
        if match[0].startswith(")") and self.open["("]:
            while (bracket := self.pop()).opener != "(":
                self.leave_open(bracket)
            self.nodes[bracket.node] = Mark.DROP
            self.nodes.append(Mark.KEEP)
        self.begin("(", match.end() - 1)

    def weight_token(self, match: re.Match[str]) -> None:
        """``1.3::``, which also ends a weight before it."""
        if self.open["::"]:
            self.close("::", match.start())
        self.begin("::", match.start())
        if self.stack[-1:] and self.stack[-1].node == len(self.nodes) - 1:
            self.nodes[-1] = _weight(match["weight"])

    def weight_end_token(self, match: re.Match[str]) -> None:
        self.close("::", match.end())

    def part_token(self, match: re.Match[str]) -> None:
        self.nodes.append(Mark.GAP if self.stack else Mark.SEGMENT)

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
        elif mark in self.factors:
            self.begin(mark, start)
        elif top and mark == "|" and top.opener != "(":
            top.options = True
            if len(self.nodes) > top.node + 1:
                self.nodes.append(_OPTION)
        else:
            if top and mark == ":":
                top.colons = (*top.colons[-1:], len(self.nodes))
            self.nodes.append(mark)

    def begin(self, opener: str, start: int, *, options: bool = False) -> None:
        if len(self.stack) < MAX_DEPTH:
            self.stack.append(_Bracket(opener, len(self.nodes), start, options))
            self.open[opener] += 1
            self.nodes.append(self.factors[opener])
        else:
            self.nodes.append(Mark.GAP)

    def segment(self, word: str) -> None:
        """``BREAK``, or ``AND`` with the weight of the conditioning before it, which is no word."""
        if word.startswith("AND"):
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
        elif bracket.options and opener == "{":
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


def _power(written: str) -> float:
    """``++`` as 1.1², ``--`` as 0.9², a number as itself."""
    if written[0] in "+-":
        return float((1.1 if written[0] == "+" else 0.9) ** len(written))
    return _weight(written)


_TOKENS = {
    **dict.fromkeys(("escape", "tag"), _Reader.word_token),
    **dict.fromkeys(("wildcard", "choice", "kept"), _Reader.wildcard_token),
    **dict.fromkeys(("fields", "torn_fields", "embedding"), _Reader.network_token),
    **dict.fromkeys(("pipe", "part"), _Reader.part_token),
    "segment": _Reader.segment_token,
    "face": _Reader.face_token,
    "variable": _Reader.variable_token,
    "power": _Reader.power_token,
    "stress": _Reader.stress_token,
    "swap": _Reader.swap_token,
    "weight": _Reader.weight_token,
    "weight_end": _Reader.weight_end_token,
}
"""The token's last group -> what is made of it."""
