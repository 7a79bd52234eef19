"""The explicit table of stages, in the order they run."""

from __future__ import annotations

from surd.params import Params
from surd.recipe.keys import Recipe
from surd.stages import caption, prompts, score
from surd.stages.base import Stage
from surd.stages.dedup import stage as dedup
from surd.stages.download import stage as download
from surd.stages.filter import stage as filter
from surd.stages.filter.params import WithRequired

STAGES: tuple[Stage, ...] = (
    download.STAGE,
    prompts.STAGE,
    caption.STAGE,
    score.STAGE,
    dedup.STAGE,
    filter.STAGE,
)


def stage_names() -> list[str]:
    """What ``--until`` accepts, in order.

    ``collect`` comes before every stage; after the last, ``publish`` makes the dataset.
    """
    return ["collect", *(stage.name for stage in STAGES), "publish"]


def stage_named(name: str) -> Stage:
    """The stage of that name; raises KeyError."""
    return {stage.name: stage for stage in STAGES}[name]


def params_of(recipe: Recipe, stage: Stage) -> Params:
    """The stage's parameters within a recipe: the key of the same name; for the filter also what
    ``publish`` requires of a sample."""
    if stage is filter.STAGE:
        return WithRequired(**dict(recipe.filter), require=recipe.publish.require)
    params: Params = getattr(recipe, stage.name)
    return params
