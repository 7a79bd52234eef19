"""Texts of an XMP packet (ISO 16684-1): descriptions, titles, comments, and what else is words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape

from surd.files.carriers.decoding import MAX_TEXT_BYTES, decode_comment
from surd.text.generation.found import Text

HEADER = b"http://ns.adobe.com/xap/1.0/\0"

# Read by its marks alone: no entities that expand, no namespaces that have to be right.
_MARK = re.compile(r"<(?:!\[CDATA\[(?P<cdata>.*?)\]\]>|(?P<tag>[/!?]?[^<>]*)>)", re.S)
_ATTRIBUTE = re.compile(r"""([\w.-]+:[\w.-]+)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_NAME = re.compile(r"/?([\w.:-]+)")
_WRAPPERS = frozenset({"rdf:Alt", "rdf:Bag", "rdf:Seq", "rdf:li"})
_TECHNICAL = re.compile(r"xmlns:.*|rdf:about|xml:lang|x:.*|xmpMM:.*|stEvt:.*|stRef:.*|photoshop:.*")


def texts(data: bytes) -> Iterator[Text]:
    """Texts of elements and attributes, under the name of the property they belong to."""
    if len(data) > MAX_TEXT_BYTES:
        return
    open_: list[str] = []
    position, packet = 0, decode_comment(data)
    for match in _MARK.finditer(packet):
        if open_ and (value := packet[position : match.start()].strip()):
            yield from _text(_property(open_), value)
        position = match.end()
        tag = match["tag"]
        if tag is None:
            yield from _text(_property(open_), match["cdata"], plain=True)
        elif tag.startswith("/"):
            del open_[-1:]
        elif not tag.startswith(("!", "?")) and (name := _NAME.match(tag)):
            for attribute in _ATTRIBUTE.finditer(tag):
                yield from _text(attribute[1], attribute[2] or attribute[3] or "")
            if not tag.endswith("/"):
                open_.append(name[1])


def _property(open_: list[str]) -> str:
    return next((name for name in reversed(open_[-4:]) if name not in _WRAPPERS), "")


def _text(name: str, value: str, *, plain: bool = False) -> Iterator[Text]:
    if value and not _TECHNICAL.fullmatch(name):
        yield Text(f"XMP {name}", name, value if plain else unescape(value))
