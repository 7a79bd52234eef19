"""The explicit table of stages, in the order they run."""

from __future__ import annotations

from surd.params import Params
from surd.recipe.keys import Recipe
from surd.stages import caption, dense, prompts, score, tags
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

STYLES: dict[str, Stage] = {"dense": dense.STAGE, "tags": tags.STAGE}
"""Value of ``caption.styles`` -> the stage that makes it, right after ``caption``, which each takes
its parameters from. What they make depends on no other stage, and is published."""


def styles_of(recipe: Recipe) -> list[Stage]:
    """The stages that ``caption.styles`` asks for."""
    return [stage for style, stage in STYLES.items() if style in recipe.caption.styles]


def stages_of(recipe: Recipe) -> list[Stage]:
    """All stages that a recipe asks for, in the order they run."""
    found = [(stage, *(styles_of(recipe) if stage is caption.STAGE else ())) for stage in STAGES]
    return [stage for some in found for stage in some]


def stage_names() -> list[str]:
    """What ``--until`` accepts, in order.

    ``collect`` comes before every stage; after the last, ``publish`` makes the dataset.
    """
    return ["collect", *(stage.name for stage in STAGES), "publish"]


def stage_named(name: str) -> Stage:
    """The stage of that name; raises KeyError."""
    return {stage.name: stage for stage in (*STAGES, *STYLES.values())}[name]


def params_of(recipe: Recipe, stage: Stage) -> Params:
    """The stage's parameters within a recipe: the key of the same name, or ``caption``; for those
    that caption and for the filter also what ``publish`` requires of a sample."""
    told, require = recipe.caption, recipe.publish.require
    if stage is caption.STAGE:
        return caption.WithRequired(**dict(told), require=require)
    if stage.name == "dense":
        return dense.params_from(told, told.dense, require)
    if stage.name == "tags":
        return tags.params_from(
            told.tags, batch_size=told.batch_size, device=told.device, require=require
        )
    if stage is filter.STAGE:
        return WithRequired(**dict(recipe.filter), require=require)
    params: Params = getattr(recipe, stage.name)
    return params
