"""Caption: several simple prompts for each image; CLIP chooses among them in the next stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from pydantic import Field, field_validator, model_validator

from surd.params import apart
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
from surd.stages.dense import DenseOptions
from surd.stages.filter.params import TRIPLE, Piece
from surd.stages.tags import TagOptions
from surd.store.schema import CAPTIONS
from surd.text.caption_cleaning import clean_caption

if TYPE_CHECKING:
    from surd.stages.decoding import Opened


class CaptionParams(CaptionerParams):
    """Which model speaks about the images, and how often."""

    candidates: int = Field(
        default=5,
        ge=1,
        le=64,
        description="captions per image: one by beam search (on a server, the likeliest words), "
        "the others sampled",
    )
    num_beams: int = Field(default=3, ge=1, le=16, description="beams for the first candidate")
    top_p: float = Field(
        default=0.9, gt=0, le=1, description="nucleus (top p) for the sampled candidates"
    )
    max_new_tokens: int = Field(
        default=40, ge=1, le=512, description="maximum length of a caption, in tokens"
    )
    clean: bool = Field(
        default=True,
        description="remove the models' tics, such as arafed, there is a, Caption: and quotes",
    )
    given: Literal["only", "compete", "ignore"] = Field(
        default="only",
        description="a simple prompt from the source: use it as it is, add it as one more "
        "candidate, or ignore it",
    )
    seed: int = Field(
        default=0,
        ge=0,
        description="together with the sample's id, determines the sampled captions",
    )
    styles: list[Literal["simple", "dense", "tags"]] = apart(
        ["simple"],
        "what is said of each image: simple prompts (always), a dense caption, tags",
    )
    dense: DenseOptions = apart(DenseOptions(), "the dense caption")
    tags: TagOptions = apart(TagOptions(), "the tags")

    @field_validator("styles")
    @classmethod
    def _with_simple(cls, styles: list[str]) -> list[str]:
        if "simple" not in styles:
            raise ValueError("simple cannot be left out; every sample needs a simple prompt")
        return list(dict.fromkeys(styles))

    @model_validator(mode="after")
    def _asks_who_can_answer(self) -> CaptionParams:
        """Told before hours of simple captions, as far as a name tells."""
        writer = self.dense.model or self.model
        if "dense" in self.styles and any(name in writer for name in _BLIPS):
            raise ValueError(
                f"dense captions are not written by {writer}, a BLIP; set caption.dense.model to a "
                "model that can be asked, such as Qwen/Qwen3-VL-4B-Instruct"
            )
        return self


class WithRequired(CaptionParams):
    """With what ``publish.require`` says: who cannot be published needs no caption."""

    require: tuple[Piece, ...] = apart(TRIPLE, "what a published sample has")


_BLIPS = ("blip-image-captioning", "demo:captioner")


def open_(params: CaptionParams) -> StageFunction:
    """The function that captions; the model is loaded when the first image needs it.

    Raises ModelError, from the first batch on.
    """
    return lambda batches: _caption(batches, params)


def _caption(batches: Iterable[Batch], params: CaptionParams) -> Iterator[pa.Table]:
    asking = Asking(params, _wanted(params), seed=params.seed, rows=partial(_is_wanted, params))
    for some, found in proposals(batches, asking):
        yield _table(some, found, params)


def _table(some: Opened[Any], found: Found, params: CaptionParams) -> pa.Table:
    given = _given(some.table, params)
    statuses = [
        "ok" if status == "no_prompt" and texts and params.given == "only" else status
        for status, texts in zip(statuses_of(some, params), given, strict=True)
    ]
    details: list[str | None] = [None] * len(statuses)
    candidates = [[_candidate(text, "given") for text in texts] for texts in given]
    for i, proposed in found.items():
        if isinstance(proposed, Exception):
            details[i] = str(proposed)
        else:
            said = ((proposal.text, proposal.how) for proposal in proposed)
            candidates[i] += _different(said, candidates[i], clean=params.clean)
        if not getattr(proposed, "is_final", True):
            statuses[i] = "no_answer"
        elif not candidates[i]:
            statuses[i] = "empty"
    return pa.Table.from_arrays(
        [
            some.table["id"],
            pa.array(statuses),
            pa.array(details, pa.string()),
            pa.array(candidates, CAPTIONS.field("candidates").type),
        ],
        schema=CAPTIONS,
    )


def _is_wanted(params: CaptionParams, table: pa.Table) -> list[bool]:
    given, of_use = _given(table, params), is_of_use(params, table)
    return [
        wanted and (not texts or params.given != "only")
        for texts, wanted in zip(given, of_use, strict=True)
    ]


def _given(table: pa.Table, params: CaptionParams) -> list[list[str]]:
    """The captions that each sample's source has, the simple prompt first."""
    if params.given == "ignore":
        return [[] for _ in range(table.num_rows)]
    simple = table["simple_prompt"].to_pylist()
    there = "captions" in table.column_names  # not in parts of earlier versions
    more = table["captions"].to_pylist() if there else [None] * len(simple)
    return [
        list(dict.fromkeys(text.strip() for text in (first, *(rest or ())) if (text or "").strip()))
        for first, rest in zip(simple, more, strict=True)
    ]


def _wanted(params: CaptionParams) -> Any:
    from surd.models.captions import Wanted

    return Wanted(params.candidates - 1, params.num_beams, params.top_p, params.max_new_tokens)


def _candidate(raw: str, how: str, text: str | None = None) -> dict[str, str]:
    return {"text": raw if text is None else text, "raw": raw, "how": how}


def _different(
    proposals: Iterable[tuple[str, str]], before: Sequence[dict[str, str]], *, clean: bool
) -> list[dict[str, str]]:
    """Candidates with words, each text once. A proposal is what was said, and how."""
    known = {candidate["text"] for candidate in before}
    new = []
    for raw, how in proposals:
        text = clean_caption(raw) if clean else raw
        if text and text not in known:
            known.add(text)
            new.append(_candidate(raw, how, text))
    return new


def _cleaned_again(rows: pa.Table, params: CaptionParams) -> pa.Table:
    """Rows of version 2, which took counts ("a dog and a dog") for repetitions, or of version 3,
    which left "a kitten ' s nose" as BLIP decodes it, or of version 4, which left what chat models
    wrap captions in."""
    if not params.clean:
        return rows
    cleaned = []
    for candidates in rows["candidates"].to_pylist():
        given = [one for one in candidates or () if one["how"] == "given"]
        said = ((one["raw"], one["how"]) for one in candidates or () if one["how"] != "given")
        cleaned.append([*given, *_different(said, given, clean=True)])
    at = rows.column_names.index("candidates")
    return rows.set_column(
        at, CAPTIONS.field("candidates"), pa.array(cleaned, CAPTIONS.field("candidates").type)
    )


STAGE = Stage(
    name="caption",
    group="captions",
    version=5,
    reads={"images": ("bytes",), "samples": ("prompt", "simple_prompt", "captions")},
    row_inputs={"images": ("sha256",), "samples": ("simple_prompt", "captions")},
    final=("ok", "empty"),
    passing=("no_answer",),
    unanswered=("no_answer", "empty"),
    upgrades={2: _cleaned_again, 3: _cleaned_again, 4: _cleaned_again},
    leaves=leaves,
    check=check_server,
    schema=CAPTIONS,
    params=WithRequired,
    open=open_,
    models=lambda params: (params.model,),
    workers="one",
    batch_rows=64,
)
