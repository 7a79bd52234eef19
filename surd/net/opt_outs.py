"""What says that a file is not to be used for AI. docs/security.md has the table.

In doubt it does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_DIRECTIVES = frozenset({"noai", "noimageai", "noml", "noindex", "noimageindex", "none"})
_ALLOWING = frozenset({"index", "follow", "archive", "imageindex", "indexifembedded"})
_HAVE_VALUES = ("max-snippet", "max-image-preview", "max-video-preview", "unavailable_after")
_EVERYBODY = frozenset({"*", "all", "any", "robots", "bots"})
_WORDS = re.compile(r"([\w*+-]+)(?:/[\w.+-]*(?=\s*:))?\s*(:?)")
"""Words, and whether a colon comes after them or after their version, as in ``surd/1.0:``."""
_TRAINING = re.compile(r"(?<![\w-])(?:train[-_]?(?:gen)?ai|ai[-_]?train(?:ing)?)(?![\w-])")
_ALL_USES = re.compile(r"(?<![\w-])(?:all|bots|tdm|ai|genai)(?![\w-])")
"""What earlier drafts call uses of which training is one."""
_DENIED = re.compile(
    r"[\"']?\s*[=:][^\w,;=]*(?:n|no|0|false|off|none|never|den(?:y|ied)|disallow(?:ed)?)(?![\w-])"
)


def opt_out(values: Callable[[str], Sequence[str]]) -> str | None:
    """The header of an answer that opts out; ``values`` gives the lines of a header.

    A header's lines are not to be joined: in X-Robots-Tag, a robot's name holds to the line's end.
    """
    read = {
        "X-Robots-Tag": robots_tag_opts_out,
        "Content-Usage": usage_opts_out,
        "Content-Signal": usage_opts_out,
        "TDM-Reservation": is_reserved,
    }
    for name, opts_out in read.items():
        for value in values(name):
            if opts_out(value):
                return f"{name}: {value:.100}"
    return None


def meta_opts_out(name: str, content: str) -> bool:
    """Whether a page's meta tag opts out."""
    name = name.strip().lower()
    if name == "tdm-reservation":
        return is_reserved(content)
    return name in ("robots", "surd") and robots_tag_opts_out(content)


def robots_tag_opts_out(value: str) -> bool:
    """Whether X-Robots-Tag has a directive against it for everybody or for surd.

    https://developers.google.com/search/docs/crawling-indexing/robots-meta-tag
    """
    agent, is_value = "*", False
    for word, colon in _WORDS.findall(value.lower()):
        directive = re.sub("[-_]", "", word)
        if directive in _DIRECTIVES and not (is_value and word == "none"):
            if agent in _EVERYBODY or agent.startswith("surd"):
                return True
        elif word in _HAVE_VALUES:
            is_value = bool(colon)
            continue
        elif colon and not is_value and not _is_no_robot(directive):
            agent = word
        is_value = False
    return False


def _is_no_robot(word: str) -> bool:
    """Whether a word before a colon is the hour of a date, or another directive."""
    return word[:1].isdigit() or word.startswith("no") or word in _ALLOWING


def usage_opts_out(value: str) -> bool:
    """Whether usage preferences deny training: ``train-ai=n``, ``ai-train=no``.

    https://datatracker.ietf.org/doc/draft-ietf-aipref-vocab/ and https://contentsignals.org
    """
    value = value.lower()
    said = _TRAINING if _TRAINING.search(value) else _ALL_USES
    return any(_DENIED.match(value, use.end()) for use in said.finditer(value))


def usage_speaks_of_training(value: str) -> bool:
    """Whether usage preferences say anything about training."""
    return any(uses.search(value.lower()) for uses in (_TRAINING, _ALL_USES))


def is_reserved(value: str) -> bool:
    """Whether ``tdm-reservation`` is set. https://www.w3.org/community/reports/tdmrep/"""
    return value.strip().strip("\"'") not in ("", "0")
