"""Which column of a table is for what, by its usual names or the recipe's."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import Field

from surd.errors import SourceError, listed
from surd.sources.record import SourceParams
from surd.sources.sidecar import (
    CAPTION_KEYS,
    PROMPT_KEYS,
    SIMPLE_PROMPT_KEYS,
    Sidecar,
    as_list,
    json_able,
    texts_in,
    together,
)

USUAL_NAMES = {
    "url": ("url", "image_url", "img_url", "link", "urls", "image_urls", "coco_url"),
    "path": (
        *("path", "file", "file_name", "filename", "image_path", "filepath", "file_path"),
        *("image", "img", "img_path", "image_file", "image_name", "images", "image_paths", "files"),
    ),
    "prompt": (
        *("prompt", "complex_prompt", "text", "caption"),
        *("captions", "texts", "sentences", "comment"),
    ),
    "simple_prompt": SIMPLE_PROMPT_KEYS,
    "negative_prompt": ("negative_prompt", "negativeprompt"),
    "id": ("id", "image_id", "uuid"),
    "author": ("author", "username", "user_name", "creator"),
    "licence": ("licence", "license"),
    "nsfw": ("nsfw_level", "nsfw"),
    "model": ("model", "model_name"),
}
"""What a column is for -> the names it usually has, likeliest first; case does not matter."""
NSFW_LEVELS = {
    **dict.fromkeys(("none", "false", "0", "sfw", "safe", "unlikely"), "none"),
    "soft": "soft",
    "mature": "mature",
    **dict.fromkeys(("x", "true", "1", "nsfw"), "x"),
}
"""Civitai's words, yes and no, and LAION's. Any other value stays in the settings."""


def column(purpose: str) -> Any:
    """The field of a recipe that names the column for ``purpose``."""
    usual = ", ".join(USUAL_NAMES[purpose])
    return Field(
        default=None, description=f"column name; default: the first existing one of {usual}"
    )


class ColumnParams(SourceParams):
    """The columns that say something of an image, wherever it lies.

    Beside another column of prompts, ``text`` or ``caption`` is the simple prompt.
    """

    prompt_column: str | None = column("prompt")
    simple_prompt_column: str | None = Field(
        default=None,
        description="column name; default: the first existing one of "
        f"{', '.join(SIMPLE_PROMPT_KEYS)}, or text or caption unless they hold the "
        "prompt",
    )
    negative_prompt_column: str | None = column("negative_prompt")
    author_column: str | None = column("author")
    licence_column: str | None = column("licence")
    nsfw_column: str | None = column("nsfw")
    model_column: str | None = column("model")
    author: str | None = Field(default=None, description="author, where the table names none")
    licence: str | None = Field(default=None, description="licence, where the table names none")


def find_columns(params: ColumnParams, names: Sequence[str], where: object) -> dict[str, str]:
    """What a column is for -> the column, for those there are and ``params`` has a key for.

    Raises SourceError, which names the file ``where``, for a column that is asked for in vain.
    """
    columns = {}
    by_lower_name = {name.lower(): name for name in reversed(names)}
    for purpose, usual in USUAL_NAMES.items():
        key = f"{purpose}_column"
        if key not in type(params).model_fields:
            continue
        asked: str | None = getattr(params, key)
        found = [by_lower_name[name] for name in usual if name in by_lower_name]
        if asked is None and found:
            columns[purpose] = found[0]
        elif asked is not None and asked in names:
            columns[purpose] = asked
        elif asked is not None and names:
            near = difflib.get_close_matches(asked.lower(), by_lower_name, n=1, cutoff=0)[0]
            raise SourceError(
                f"{where}: no column {asked!r} for {key}; did you mean "
                f"{by_lower_name[near]!r}? Columns: {listed(names)}"
            )
    if columns.get("prompt", "caption").lower() not in CAPTION_KEYS:
        for name in ("text", "caption", "captions", "texts", "sentences"):
            if name in by_lower_name:
                columns.setdefault("simple_prompt", by_lower_name[name])
    return columns


def is_caption(params: ColumnParams, columns: Mapping[str, str]) -> bool:
    """Whether the column of prompts is one of captions by its name."""
    return params.prompt_column is None and columns["prompt"].lower() in CAPTION_KEYS


def cell(columns: Mapping[str, str], row: Mapping[str, Any], purpose: str) -> Any:
    """The row's value for a purpose; None where no column has it. A column may have no name."""
    return row.get(columns[purpose]) if purpose in columns else None


def texts_of(columns: Mapping[str, str], row: Mapping[str, Any]) -> dict[str, str | None]:
    """What a column is for -> the row's text, the first of a list; under ``nsfw`` the level that a
    word means.

    Raises ValueError for bytes that are not UTF-8.
    """
    texts: dict[str, str | None] = {}
    for purpose, name in columns.items():
        found = _texts(row.get(name))
        texts[purpose] = found[0] if found else None
    texts["nsfw"] = NSFW_LEVELS.get((texts.get("nsfw") or "").strip().lower())
    return texts


def fields_of(
    params: ColumnParams,
    columns: Mapping[str, str],
    row: Mapping[str, Any],
    texts: Mapping[str, str | None],
    words: Sidecar | None = None,
) -> dict[str, Any]:
    """The fields of a Record that come from ``texts``, and from text files' ``words`` beside the
    row; every other value goes to the settings."""
    taken = {name for purpose, name in columns.items() if texts[purpose] is not None}
    rest = {name: json_able(value) for name, value in row.items() if name not in taken}
    prompts = _texts(cell(columns, row, "prompt"))
    simple = _texts(cell(columns, row, "simple_prompt"))
    prompt = prompts[0] if prompts else None
    captions = tuple(simple[1:])
    if prompt and is_caption(params, columns):
        captions, prompt = (*prompts, *captions), None
    elif len(prompts) > 1 and columns["prompt"].lower() in PROMPT_KEYS:
        rest["other_prompts"] = prompts[1:]
    else:
        captions = (*prompts[1:], *captions)
    said = Sidecar(
        prompt,
        texts.get("negative_prompt"),
        texts.get("model"),
        {name: value for name, value in rest.items() if value not in (None, "")},
        simple[0] if simple else None,
        captions,
    )
    if words is not None:
        said = together(said, Sidecar(), words)
    elif captions:
        said = said.settled()
    return {
        "prompt": said.prompt,
        "negative_prompt": said.negative_prompt,
        "simple_prompt": said.simple_prompt,
        "captions": said.captions,
        "author": texts.get("author") or params.author,
        "licence": texts.get("licence") or params.licence,
        "nsfw_level": texts["nsfw"],
        "model": said.model,
        "settings": said.settings,
    }


def _texts(value: Any) -> list[str]:
    """The texts of a cell, of a list all of them."""
    if isinstance(value, str) and not value.lstrip().startswith("["):
        return [value] if value.strip() else []
    listed = as_list(value.strip()) if isinstance(value, str) else value
    if isinstance(listed, (list, tuple, dict)):
        return texts_in(listed)
    text = _text(value)
    return [] if text is None else [text]


def _text(value: Any) -> str | None:
    """A single value as text; None for nothing and blanks."""
    if value is None:
        return None
    if isinstance(value, bytes):
        value = value.decode("utf-8")
    elif isinstance(value, bool):
        value = str(value).lower()
    elif isinstance(value, float):
        value = f"{value:.15g}" if math.isfinite(value) else ""
    return str(value) if str(value).strip() else None
