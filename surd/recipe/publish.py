"""What a recipe can say of publishing."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator, model_validator

from surd.params import Params, added
from surd.stages.filter.params import TRIPLE, Piece

EXAMPLES = 5
"""Examples that are looked out for the card; a recipe may show fewer."""

CARD_ONLY = frozenset({"licence", "introduction", "examples"})
"""Parameters that change the card alone: no shard is written anew for them."""


class PublishParams(Params):
    """How the kept samples are split, cut into files, and introduced."""

    validation: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="share of the groups of near-duplicates and equal complex prompts for the "
        "validation split",
    )
    test: float = Field(
        default=0.01,
        ge=0,
        le=1,
        description="share of the groups of near-duplicates and equal complex prompts for the "
        "test split",
    )
    shard_mb: float = Field(default=500, gt=0, description="megabytes of images per file")
    row_group_mb: float = Field(
        default=32, gt=0, le=1000, description="megabytes of images per row group"
    )
    row_group_rows: int = Field(default=100, ge=1, le=100_000, description="rows per row group")
    require: tuple[Piece, ...] = added(
        TRIPLE,
        "what a sample has to have: all three, or [image, simple_prompt] to publish images "
        "without a complex prompt too",
    )
    metadata: Literal["strip", "keep"] = Field(
        default="strip",
        description="what image files hold beside the picture (prompts, workflows, EXIF): strip "
        "removes it, and leaves the pixels of JPEG, PNG and WebP as they are",
    )
    licence: str | None = Field(
        default=None,
        description="the Hub's identifier for the licence (cc-by-4.0, other, unknown); "
        "default: derived from what the sources say",
    )
    introduction: str = Field(
        default="", description="Markdown of your own at the top of the dataset card"
    )
    examples: int = Field(
        default=EXAMPLES, ge=0, le=EXAMPLES, description="number of prompt pairs on the card"
    )

    @field_validator("require")
    @classmethod
    def _pieces(cls, value: tuple[Piece, ...]) -> tuple[Piece, ...]:
        if not {"image", "simple_prompt"} <= set(value):
            raise ValueError(
                "write [image, simple_prompt] or [image, simple_prompt, complex_prompt]"
            )
        return tuple(piece for piece in TRIPLE if piece in value)

    @field_validator("licence")
    @classmethod
    def _hub_identifier(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[a-z0-9.+-]+", value):
            raise ValueError("expected a licence identifier of the Hub, such as cc-by-4.0 or other")
        return value

    @model_validator(mode="after")
    def _shares(self) -> PublishParams:
        if self.validation + self.test > 1:
            raise ValueError(
                f"validation {self.validation} and test {self.test} add up to more than 1"
            )
        return self
