"""Every key of a recipe: the parameters of sources, stages, vectors and training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from surd.params import Params
from surd.recipe.embed_llm import EmbedLlmParams
from surd.recipe.publish import PublishParams
from surd.recipe.train_adapter import TrainAdapterParams
from surd.sources.kinds import Source
from surd.stages.caption import CaptionParams
from surd.stages.dedup.stage import DedupParams
from surd.stages.download.stage import DownloadParams
from surd.stages.filter.params import FilterParams
from surd.stages.prompts import PromptsParams
from surd.stages.score import ScoreParams

StageName = Literal[
    "collect", "download", "prompts", "caption", "score", "dedup", "filter", "publish"
]


class DemoSite(Params):
    """The loopback site that the demo collects from; it runs for as long as the build does."""

    port: int = Field(default=8765, ge=1, le=65535, description="port on 127.0.0.1")
    pictures: int = Field(default=600, ge=1, description="how many pictures it offers")
    seed: int = Field(default=0, description="what it paints depends on this alone")


class Recipe(Params):
    """Everything a build needs to know. Keys left out have the defaults shown."""

    name: str = Field(description="short name of the dataset")
    description: str = Field(default="", description="one line on what the dataset is")
    part_size: int = Field(
        default=1000, ge=1, le=100_000, description="samples in a part, the unit of work"
    )
    demo_site: DemoSite | None = Field(
        default=None, description="serve the demo world on loopback while building"
    )
    sources: list[Source] = Field(min_length=1, description="where samples come from, in order")
    download: DownloadParams = Field(default=DownloadParams(), description="fetching the images")
    prompts: PromptsParams = Field(default=PromptsParams(), description="cleaning the prompts")
    caption: CaptionParams = Field(default=CaptionParams(), description="simple prompts, by BLIP")
    score: ScoreParams = Field(default=ScoreParams(), description="how well texts and images agree")
    dedup: DedupParams = Field(default=DedupParams(), description="finding the same picture again")
    filter: FilterParams = Field(default=FilterParams(), description="what a sample needs to stay")
    publish: PublishParams = Field(default=PublishParams(), description="making the dataset")
    embed_llm: EmbedLlmParams = Field(
        default=EmbedLlmParams(), description="vectors of the simple prompts; not part of a build"
    )
    train_adapter: TrainAdapterParams = Field(
        default=TrainAdapterParams(), description="training an adapter; not part of a build"
    )
    until: StageName | None = Field(
        default=None, description="stage after which a build stops; the whole way when left out"
    )
