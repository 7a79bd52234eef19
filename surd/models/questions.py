"""What captioners are asked where the user asks nothing: of each family in its own words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from surd.models.captions import QUESTIONS, Style


@dataclass(frozen=True)
class Asked:
    """A question, and what is said to the model before it."""

    text: str
    system: str | None = None


_JOY = "You are a helpful image captioner."
_FAMILIES: tuple[tuple[re.Pattern[str], dict[Style, Asked]], ...] = (
    (
        re.compile(r"joy-?caption", re.IGNORECASE),
        {
            "simple": Asked("Write a one-sentence caption for this image.", _JOY),
            "dense": Asked("Write a long detailed description for this image.", _JOY),
        },
    ),
)
"""By what their names hold, for they are built like others. JoyCaption's words are those of
https://github.com/fpgaminer/joycaption."""
_FLORENCE_TASKS: dict[Style, str] = {"simple": "<CAPTION>", "dense": "<MORE_DETAILED_CAPTION>"}
"""Florence-2 knows tasks instead of questions (https://arxiv.org/abs/2311.06242)."""


def question_for(
    name: str, kind: str = "", style: Style = "simple", *, is_chat: bool = True
) -> Asked:
    """For the model of that name and ``model_type``; one without a chat is asked nothing."""
    if kind.startswith("florence"):
        return Asked(_FLORENCE_TASKS[style])
    for known, asked in _FAMILIES:
        if known.search(name):
            return asked[style]
    return Asked(QUESTIONS[style] if is_chat else "")
