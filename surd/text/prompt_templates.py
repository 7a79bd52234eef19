r"""What is taken out of a prompt, or written otherwise, before its syntax is read.

Comments (``# …`` and ``// …`` on lines of their own, ``/* … */``), tags of SwarmUI, which nest, and
``("a", "b").blend(1, 0.5)`` of compel.
"""

from __future__ import annotations

import re
from collections.abc import Callable

_LINE_COMMENT = re.compile(r"^[ \t]*(?:#[ \t]|//)[^\n]*\n?", re.M)
_MAX_NESTING = 20
_TAG = re.compile(r"<(\w{1,30})(?:\[([^\[\]<>]*)\])?(?::([^<>]*))?>")
_KEPT = re.compile("\ue000(\\d{1,9})\ue001")
_STRING = r'"[^"\\]*(?:\\.[^"\\]*)*"'
_BLEND = re.compile(
    rf"\(\s*({_STRING}(?:\s*,\s*{_STRING})*)\s*\)\s*\.(?:blend|and)\([\d.,\s+-]*(?:True|False)?\)"
)

Expand = Callable[[str], str]


def translated(text: str, generator: str | None) -> tuple[str, Expand]:
    """The text as the reader takes it, and what turns pieces of it back into what was written."""
    text = _without_comments(text)
    if generator == "SwarmUI":
        return _swarm(text)
    if generator == "InvokeAI" and (".blend(" in text or ".and(" in text):
        text = _BLEND.sub(lambda match: " BREAK ".join(_strings(match[1])), text)
    return text, str


def _without_comments(text: str) -> str:
    pieces, position = [], 0
    while (start := text.find("/*", position)) >= 0 and (stop := text.find("*/", start + 2)) >= 0:
        pieces.append(text[position:start])
        position = stop + 2
    text = " ".join([*pieces, text[position:]])
    return _LINE_COMMENT.sub("", text) if "#" in text or "//" in text else text


def _strings(texts: str) -> list[str]:
    return [string[1:-1].replace('\\"', '"') for string in re.findall(_STRING, texts)]


def _swarm(text: str) -> tuple[str, Expand]:
    """Tags as the words in force at the last step; what a template left open as marks for it."""
    kept: list[str] = []
    variables: dict[str, str] = {}

    def expand(piece: str) -> str:
        for _ in range(_MAX_NESTING):
            if not _KEPT.search(piece):
                break
            piece = _KEPT.sub(lambda match: kept[int(match[1])], piece)
        return piece

    def replace(match: re.Match[str]) -> str:
        name, option, body = match[1].lower(), match[2] or "", match[3] or ""
        if name in ("random", "wildcard", "wc"):
            kept.append(match[0])
            return f"\ue000{len(kept) - 1}\ue001"
        if name == "setvar":
            variables[option] = body
            return body
        if name == "var":
            return variables.get(body, "")
        if name in _LAST:
            return _options(body)[-1]
        if name in ("alternate", "alt"):
            return ", ".join(_options(body))
        if name == "break":
            return " BREAK "
        return "" if name in _SILENT or match[3] is None else match[0]

    text = text.replace("\ue000", "").replace("\ue001", "")
    for _ in range(_MAX_NESTING):
        before, text = text, _TAG.sub(replace, text)
        if text == before:
            break
    return text, expand


_LAST = ("fromto", "repeat")
"""Tags whose last option is in force in the end."""
_SILENT = ("comment", "param", "preset", "clear", "trigger", "setmacro", "base", "refiner", "video")


def _options(body: str) -> list[str]:
    separator = next((mark for mark in ("||", "|", ",") if mark in body), ",")
    return [option.strip() for option in body.split(separator)]
