"""What ``surd filter`` is told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from surd.params import Params, added
from surd.stages.filter.thresholds import Cosine, Margin, Probability, Threshold

NsfwLevel = Literal["none", "soft", "mature", "x"]


Piece = Literal["image", "simple_prompt", "complex_prompt"]
TRIPLE: tuple[Piece, ...] = ("image", "simple_prompt", "complex_prompt")


class FilterParams(Params):
    """What a sample needs to be kept. Each filter gives its own reason; null turns it off."""

    null = "off"

    clip_threshold: Cosine | None = Field(
        default=0.26, description="minimum cosine(image, simple prompt): a number, pN or auto"
    )
    complex_threshold: Cosine | None = Field(
        default="auto",
        description="minimum cosine(image, complex prompt): a number, pN, or auto, the cut between "
        "two clear peaks of the scores, else what drops at most the lowest tenth",
    )
    min_margin: Margin | None = Field(
        default=None,
        description="minimum cosine(image, simple) - cosine(image, complex): a number, pN or auto",
    )
    min_itm: Probability | None = Field(
        default=None, description="minimum image-text matching probability: a number, pN or auto"
    )
    min_aesthetic: Threshold | None = Field(
        default=None, description="minimum aesthetic score: a number, pN or auto"
    )
    max_nsfw: float | None = Field(
        default=0.5, ge=0, le=1, description="maximum NSFW score of the image model"
    )
    max_nsfw_level: NsfwLevel | None = Field(
        default="soft", description="maximum NSFW level as the source states it"
    )
    nsfw_words: bool = Field(default=True, description="drop prompts that contain explicit words")
    min_side: int | None = Field(
        default=256, ge=1, description="minimum length of the shorter side, in pixels"
    )
    max_aspect: float | None = Field(
        default=3.0, ge=1, description="maximum ratio of longer to shorter side"
    )
    duplicates: tuple[Literal["exact", "phash", "clip"], ...] = Field(
        default=("exact", "phash", "clip"), description="kinds of duplicates to drop"
    )
    languages: tuple[str, ...] | None = Field(
        default=None, description="languages of the complex prompt to keep, such as [en]"
    )
    min_words: int | None = Field(
        default=3,
        ge=1,
        description="minimum number of words in the complex prompt; shorter ones are mostly "
        "boilerplate",
    )
    max_per_prompt: int | None = Field(
        default=None,
        ge=1,
        description="maximum number of samples per complex prompt; the best by CLIP are kept",
    )
    max_per_author: int | None = Field(
        default=None,
        ge=1,
        description="maximum number of samples per author; the best by CLIP are kept",
    )
    watermark_words: bool = Field(
        default=True, description="drop images whose caption mentions a watermark or a logo"
    )

    def required(self) -> tuple[Piece, ...]:
        """What a sample cannot be published without."""
        return TRIPLE


class WithRequired(FilterParams):
    """With what ``publish.require`` says, which belongs to the verdicts too."""

    require: tuple[Piece, ...] = added(TRIPLE, "what a published sample has")

    def required(self) -> tuple[Piece, ...]:
        """As ``publish.require`` has it."""
        return self.require
