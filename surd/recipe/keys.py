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
    pictures: int = Field(default=600, ge=1, description="number of pictures on the site")
    seed: int = Field(default=0, description="seed for the pictures, which depend on nothing else")


class Recipe(Params):
    """Everything a build needs to know. Keys left out have the defaults shown."""

    name: str = Field(description="short name of the dataset")
    description: str = Field(default="", description="one line that describes the dataset")
    part_size: int = Field(
        default=1000, ge=1, le=100_000, description="samples per part, the unit of work"
    )
    demo_site: DemoSite | None = Field(
        default=None, description="serve the demo world on loopback while building"
    )
    sources: list[Source] = Field(min_length=1, description="where samples come from, in order")
    download: DownloadParams = Field(default=DownloadParams(), description="fetching the images")
    prompts: PromptsParams = Field(default=PromptsParams(), description="cleaning the prompts")
    caption: CaptionParams = Field(
        default=CaptionParams(),
        description="proposing simple prompts, with BLIP; dense captions and tags",
    )
    score: ScoreParams = Field(
        default=ScoreParams(), description="scoring how well prompts and images agree"
    )
    dedup: DedupParams = Field(
        default=DedupParams(), description="finding images that show the same picture"
    )
    filter: FilterParams = Field(
        default=FilterParams(), description="what a sample needs to be kept"
    )
    publish: PublishParams = Field(default=PublishParams(), description="writing the dataset")
    embed_llm: EmbedLlmParams = Field(
        default=EmbedLlmParams(),
        description="a language model's vectors of the simple prompts; not part of a build",
    )
    train_adapter: TrainAdapterParams = Field(
        default=TrainAdapterParams(), description="training an adapter; not part of a build"
    )
    until: StageName | None = Field(
        default=None, description="stage after which a build stops; default: run all stages"
    )
