"""Text of strangers inside Markdown: whatever it holds, it shows as text."""

from __future__ import annotations

import re
import unicodedata

_MARKUP = re.compile(
    r"[^A-Za-z0-9 ,.;:?!'\"/%=()_-]"
    r"|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])"  # within a word it is no emphasis
    r"|:(?! |$)"  # of https://, mailto: and :smile:
    r"|(?<=www)\.",
    re.IGNORECASE,
)
_HIDDEN = {"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"}
"""Unicode categories that show nothing or change how what is beside them shows: controls,
bidirectional overrides, separators of lines."""


def plain(text: str) -> str:
    """Text as one line without what shows nothing."""
    shown = "".join(" " if unicodedata.category(c) in _HIDDEN else c for c in text)
    return " ".join(shown.split())


def inline(text: str, max_chars: int = 200) -> str:
    """Text as one line of Markdown, fit for a cell of a table.

    Every sign that Markdown or HTML could take for its own becomes a numeric character
    reference, which neither reads again (CommonMark 0.31, section 2.5).
    """
    shown = plain(text)
    if len(shown) > max_chars:
        shown = shown[: max_chars - 1].rstrip() + "…"
    shown = _MARKUP.sub(_reference, shown)
    return _LINE_START.sub(lambda m: f"{m[1]}&#{ord(m[2])};", shown)


_LINE_START = re.compile(r"^(\d*)([-=.)])")
"""A list, a rule, or the underline of a heading."""


def _reference(match: re.Match[str]) -> str:
    char = match.group()
    return char if ord(char) > 127 else f"&#{ord(char)};"


def fenced(text: str, language: str = "") -> str:
    """A code block whose fence is longer than any run of backticks in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"
