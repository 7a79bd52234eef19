"""What says that a file is not to be used for AI. docs/security.md has the table.

In doubt it does.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

_DIRECTIVES = frozenset({"noai", "noimageai", "noml", "noindex", "noimageindex", "none"})
_HAVE_VALUES = ("max-snippet", "max-image-preview", "max-video-preview", "unavailable_after")
_EVERYBODY = frozenset({"*", "all", "any", "robots", "bots"})
_WORDS = re.compile(r"([\w*./+-]+)\s*(:?)")
_NO_TRAINING = re.compile(
    r"(?<![\w-])(?:train-ai|train-genai|ai-train)[\"']?\s*[=:]\s*[\"'?]*(?:n|no|0|false)(?![\w-])"
)
_TRAINING = re.compile(r"(?<![\w-])(?:train-ai|train-genai|ai-train)(?![\w-])")


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
        if is_value:
            is_value = False
        elif word in _HAVE_VALUES:
            is_value = bool(colon)
        elif re.sub("[-_]", "", word) in _DIRECTIVES:
            if agent in _EVERYBODY or agent.startswith("surd"):
                return True
        elif colon and not word[0].isdigit():  # the time of day is no robot
            agent = word.partition("/")[0]
    return False


def usage_opts_out(value: str) -> bool:
    """Whether usage preferences deny training: ``train-ai=n``, ``ai-train=no``.

    https://datatracker.ietf.org/doc/draft-ietf-aipref-vocab/ and https://contentsignals.org
    """
    return _NO_TRAINING.search(value.lower()) is not None


def usage_speaks_of_training(value: str) -> bool:
    """Whether usage preferences say anything about training."""
    return _TRAINING.search(value.lower()) is not None


def is_reserved(value: str) -> bool:
    """Whether ``tdm-reservation`` is set. https://www.w3.org/community/reports/tdmrep/"""
    return value.strip().strip("\"'") not in ("", "0")
