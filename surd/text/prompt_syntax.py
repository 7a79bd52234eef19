r"""What generator users write in a prompt that is not words, split off from the words.

The syntax understood, each as its users find it documented:

- AUTOMATIC1111 wiki, "Features": attention ``(words)``, ``[words]``, ``(words:1.3)``; escapes
  ``\(``; prompt editing ``[from:to:when]``; alternating words ``[cow|horse]``; composable
  diffusion ``AND``; ``BREAK``; extra networks ``<lora:name:0.8>``
- ComfyUI: ``embedding:name``
- NovelAI: ``{words}``, ``1.3::words::``
- Dynamic Prompts: choices ``{red|blue}``, wildcards ``__colour__``, variables ``${a=red}``
- comments: ``# …``, ``// …``, ``/* … */``
- regional prompting: ``ADDCOMM``, ``ADDCOL``, ``ADDROW``, ``AND_PERP``
- compel, of InvokeAI: ``(words)++``, ``word--``, ``.swap()``, ``.blend()``, ``.and()``
- SwarmUI: ``<fromto[0.5]:cat,dog>``, ``<random:red,blue>``, ``<break>``
- Midjourney: ``--ar 3:2``, ``::2``

:mod:`.prompt_reader` turns a text into a flat list of nodes, which are read off here. Both are
linear in the length of the text and neither recurses, so no text, however hostile, is slow.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from surd.text import prompt_templates
from surd.text.prompt_reader import A1111, MAX_WEIGHT, SYNTAX, Mark, Network, Node, read


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


def parse(text: str, generator: str | None = None) -> ParsedPrompt:
    """Take ``text`` apart, any text at all, as ``generator`` would; None: as AUTOMATIC1111.

    A prompt that is JSON is what a language model was given as it stands, and stays whole.
    """
    if _is_json(text):
        return ParsedPrompt(text.strip())
    text, kept = prompt_templates.translated(text, generator)
    writer = _Writer(source=text)
    for node in read(text, SYNTAX.get(generator or "", A1111)):
        writer.write(node)
    return ParsedPrompt(
        text=_tidy("".join(writer.words)),
        networks=tuple(writer.networks),
        weights=tuple(writer.weights),
        wildcards=tuple(kept(wildcard) for wildcard in writer.wildcards),
        segments=writer.segments,
    )


def _is_json(text: str) -> bool:
    """An object with a string in it, or a list of such."""
    start = text.lstrip()[:20].replace(" ", "").replace("\n", "")
    if not start.startswith(('{"', '[{"')):
        return False
    try:
        return isinstance(json.loads(text), dict | list)
    except (ValueError, RecursionError):
        return False


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

    def write(self, node: Node) -> None:
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

    def write_mark(self, mark: Mark) -> None:
        if mark is Mark.CLOSE:
            self.end_piece()
            self.factors.pop()
        elif mark is Mark.DROP:
            self.dropping += 1
        elif mark is Mark.KEEP:
            self.dropping -= 1
        elif mark is Mark.SEGMENT and not self.dropping:
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
