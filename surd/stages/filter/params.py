"""What ``surd filter`` is told."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from surd.params import Params
from surd.stages.filter.thresholds import Cosine, Threshold

NsfwLevel = Literal["none", "soft", "mature", "x"]


class FilterParams(Params):
    """What a sample needs to be kept. Each filter gives its own reason; null turns it off."""

    clip_threshold: Cosine | None = Field(
        default=0.26, description="least cosine(image, simple prompt): a number, or pN"
    )
    complex_threshold: Cosine | None = Field(
        default=None, description="least cosine(image, complex prompt): a number, or pN"
    )
    min_margin: Threshold | None = Field(
        default=None, description="least cosine(image, simple) - cosine(image, complex), or pN"
    )
    min_itm: Threshold | None = Field(
        default=None, description="least image-text matching probability, or pN"
    )
    min_aesthetic: Threshold | None = Field(default=None, description="least aesthetic score or pN")
    max_nsfw: float | None = Field(
        default=0.5, ge=0, le=1, description="highest nsfw score of the image model"
    )
    max_nsfw_level: NsfwLevel | None = Field(
        default="soft", description="highest level by the source's own word"
    )
    nsfw_words: bool = Field(default=True, description="drop prompts with explicit words")
    min_side: int | None = Field(default=256, ge=1, description="least shorter side in pixels")
    max_aspect: float | None = Field(default=3.0, ge=1, description="longer side / shorter side")
    duplicates: tuple[Literal["exact", "phash", "clip"], ...] = Field(
        default=("exact", "phash", "clip"), description="kinds of duplicates to drop"
    )
    languages: tuple[str, ...] | None = Field(
        default=None, description="languages of the complex prompt to keep, as [en]"
    )
    min_words: int | None = Field(
        default=3, ge=1, description="least words in the complex prompt; fewer is boilerplate"
    )
    max_per_prompt: int | None = Field(
        default=None, ge=1, description="samples with the same complex prompt, the best by CLIP"
    )
    max_per_author: int | None = Field(
        default=None, ge=1, description="samples of one author, the best by CLIP"
    )
    watermark_words: bool = Field(
        default=True, description="drop images whose caption speaks of a watermark or a logo"
    )
