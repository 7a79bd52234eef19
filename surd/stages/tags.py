"""Tags: what a tag model finds in each image, beside the captions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import Field

from surd.params import ModelName, Params, apart, runtime
from surd.stages.base import Batch, Stage, StageFunction
from surd.stages.captioners import is_of_use, leaves, statuses_of
from surd.stages.filter.params import Piece
from surd.store.schema import TAGS

if TYPE_CHECKING:
    from surd.models.tagger import Tagger


class TagOptions(Params):
    """Which model finds tags, and how sure it has to be."""

    model: ModelName = Field(
        default="SmilingWolf/wd-vit-tagger-v3",
        description="tag model: hub id or folder with model.onnx and selected_tags.csv",
    )
    min_general: float = Field(
        default=0.35, ge=0, le=1, description="minimum probability of a general tag"
    )
    min_character: float = Field(
        default=0.85, ge=0, le=1, description="minimum probability of a character's name"
    )


class TagParams(TagOptions):
    """All that the stage needs to know."""

    batch_size: int = runtime(32, "images per batch", ge=1)
    device: str = runtime("auto", "auto, cpu, cuda or cuda:N")
    require: tuple[Piece, ...] = apart((), "what a published sample has")


def params_from(
    options: TagOptions, *, batch_size: int, device: str, require: tuple[Piece, ...] = ()
) -> TagParams:
    """The stage's parameters from those of ``caption.tags`` and ``caption``."""
    return TagParams(**options.model_dump(), batch_size=batch_size, device=device, require=require)


def open_(params: TagParams) -> StageFunction:
    """The function that tags; the model is loaded when the first image needs it.

    Raises ModelError, from the first batch on.
    """
    return lambda batches: _tag(batches, params)


def _tag(batches: Iterable[Batch], params: TagParams) -> Iterator[pa.Table]:
    from surd.models.devices import device_named
    from surd.models.memory import AtOnce
    from surd.models.tagger import load_tagger
    from surd.stages.decoding import once, opened

    tagger = once(lambda: load_tagger(params.model, device=device_named(params.device).type))
    at_once = AtOnce(params.batch_size)

    def scores(some: Any, rows: Sequence[int]) -> list[Any]:
        return list(tagger().score([some.pictures[i] for i in rows]))

    for some in opened(
        batches,
        lambda image: tagger().prepare(image),
        side_px=lambda: tagger().side_px,
        wanted=partial(is_of_use, params),
    ):
        found = [
            row
            for piece in at_once.each(partial(scores, some), some.usable, _too_large)
            for row in piece
        ]
        statuses = statuses_of(some, params)
        lists: list[list[dict[str, Any]] | None] = [None] * len(statuses)
        for i, probabilities in zip(some.usable, found, strict=True):
            lists[i] = _chosen(tagger(), probabilities, params)
            if not _names(lists[i]):
                statuses[i] = "empty"
        columns = [
            some.table["id"],
            pa.array(statuses, pa.string()),
            pa.array([", ".join(_names(one)) or None for one in lists], pa.string()),
            pa.array(lists, TAGS.field("scores").type),
        ]
        yield pa.Table.from_arrays(columns, schema=TAGS)


def _chosen(tagger: Tagger, probabilities: Any, params: TagParams) -> list[dict[str, Any]]:
    """Characters, then general tags that are likely enough, the likeliest first; at last the
    likeliest rating."""
    least = {"character": params.min_character, "general": params.min_general, "rating": 0.0}
    found: dict[str, list[dict[str, Any]]] = {category: [] for category in least}
    for tag, score in zip(tagger.tags, probabilities.tolist(), strict=True):
        if score >= least.get(tag.category, 2.0):
            found[tag.category].append({"tag": tag.name, "category": tag.category, "score": score})
    for some in found.values():
        some.sort(key=lambda one: -one["score"])
    return [*found["character"], *found["general"], *found["rating"][:1]]


def _names(chosen: Sequence[dict[str, Any]] | None) -> list[str]:
    return [one["tag"] for one in chosen or () if one["category"] != "rating"]


def _too_large(row: int) -> str:
    return "not enough memory to tag even one picture; set caption.device to cpu"


STAGE = Stage(
    name="tags",
    group="tags",
    version=1,
    reads={"images": ("bytes",), "samples": ("prompt",)},
    row_inputs={"images": ("sha256",)},
    final=("ok", "empty"),
    leaves=leaves,
    schema=TAGS,
    params=TagParams,
    open=open_,
    models=lambda params: (params.model,),
    workers="one",
    batch_rows=64,
)
