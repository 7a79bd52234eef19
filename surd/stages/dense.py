"""Dense captions: a paragraph with every detail of each image, beside the simple prompts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pydantic import Field

from surd.params import ModelName, Params, apart
from surd.stages.base import Batch, Stage, StageFunction
from surd.stages.captioners import (
    Asking,
    CaptionerParams,
    Found,
    check_server,
    is_of_use,
    leaves,
    proposals,
    statuses_of,
)
from surd.stages.filter.params import Piece
from surd.store.schema import DENSE
from surd.text.chat_answers import unwrapped

if TYPE_CHECKING:
    from surd.stages.decoding import Opened


class DenseOptions(Params):
    """Who writes the dense captions; all else is as for simple ones."""

    model: ModelName | None = Field(
        default=None,
        description="a model that can be asked, not BLIP; default: that of the simple prompts",
    )
    prompt: str | None = Field(
        default=None, description="question; default: ask for one detailed paragraph"
    )
    max_new_tokens: int = Field(
        default=300, ge=1, le=4096, description="maximum length of a caption, in tokens"
    )


class DenseParams(CaptionerParams):
    """All that the stage needs to know."""

    max_new_tokens: int
    require: tuple[Piece, ...] = apart((), "what a published sample has")


def params_from(
    caption: CaptionerParams, options: DenseOptions, require: tuple[Piece, ...] = ()
) -> DenseParams:
    """The stage's parameters from those of ``caption`` and ``caption.dense``."""
    shared = {name: getattr(caption, name) for name in CaptionerParams.model_fields}
    own = {**options.model_dump(), "model": options.model or caption.model}
    return DenseParams(**{**shared, **own}, require=require)


def open_(params: DenseParams) -> StageFunction:
    """The function that captions; the model is loaded when the first image needs it.

    Raises ModelError, from the first batch on.
    """
    return lambda batches: _caption(batches, params)


def _caption(batches: Iterable[Batch], params: DenseParams) -> Iterator[pa.Table]:
    from surd.models.captions import Wanted

    wanted = Wanted(samples=0, num_beams=1, max_new_tokens=params.max_new_tokens)
    rows = partial(is_of_use, params)
    for some, found in proposals(batches, Asking(params, wanted, "dense", rows=rows)):
        yield _table(some, found, params)


Row = tuple[str, str | None, str | None]
"""Status, detail and caption."""


def _table(some: Opened[Any], found: Found, params: DenseParams) -> pa.Table:
    rows: list[Row] = [(status, None, None) for status in statuses_of(some, params)]
    for i, said in found.items():
        rows[i] = _row(said)
    columns: Iterable[Sequence[str | None]] = zip(*rows, strict=True) if rows else ([], [], [])
    arrays = [some.table["id"], *(pa.array(list(column), pa.string()) for column in columns)]
    return pa.Table.from_arrays(arrays, schema=DENSE)


def _row(said: Any) -> Row:
    if isinstance(said, Exception):
        return ("empty" if getattr(said, "is_final", False) else "no_answer", str(said), None)
    text = " ".join(unwrapped(said[0].whole).split()) if said else ""
    if text:
        return "ok", None, text
    is_cut = bool(said) and said[0].is_cut
    return "empty", _CUT if is_cut else None, None


_CUT = "its first sentence is cut; raise caption.dense.max_new_tokens"


def _unwrapped_again(rows: pa.Table, params: DenseParams) -> pa.Table:
    """Rows of version 1, which left what chat models wrap captions in."""
    texts = [text and unwrapped(text) for text in rows["dense_caption"].to_pylist()]
    at = rows.column_names.index("dense_caption")
    return rows.set_column(at, DENSE.field("dense_caption"), pa.array(texts, pa.string()))


STAGE = Stage(
    name="dense",
    group="dense",
    version=2,
    reads={"images": ("bytes",), "samples": ("prompt",)},
    row_inputs={"images": ("sha256",)},
    final=("ok", "empty"),
    passing=("no_answer",),
    unanswered=("no_answer", "empty"),
    upgrades={1: _unwrapped_again},
    leaves=leaves,
    check=check_server,
    schema=DENSE,
    params=DenseParams,
    open=open_,
    models=lambda params: (params.model,),
    workers="one",
    batch_rows=64,
)
