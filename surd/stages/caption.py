"""Caption: several simple prompts for each image; CLIP chooses among them in the next stage."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from pydantic import Field

from surd.params import SERVED, ModelName, Params, added, runtime
from surd.stages.base import Batch, Stage, StageFunction
from surd.store.schema import CAPTIONS
from surd.text.caption_cleaning import clean_caption

if TYPE_CHECKING:
    from surd.stages.decoding import Opened


class CaptionParams(Params):
    """Which model speaks about the images, and how often."""

    model: ModelName = Field(
        default="Salesforce/blip-image-captioning-large",
        description="BLIP, or another image-text-to-text model: hub id or folder; or a model on an "
        "OpenAI-compatible server, as openai:http://localhost:8000/v1#MODEL",
    )
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
    prompt: str | None = Field(
        default=None,
        description="question for models other than BLIP; default: ask for one sentence",
    )
    clean: bool = Field(
        default=True, description="remove BLIP's tics, such as arafed or there is a"
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
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        default="auto",
        description="precision of the weights; auto: bf16 on a GPU (fp16 on older ones), else fp32",
    )
    batch_size: int = runtime(32, "images per batch", ge=1)
    device: str = runtime("auto", "auto, cpu, cuda or cuda:N")
    image_side: int = added(
        768,
        "maximum length of the longer side of images that are sent to a server, in pixels",
        ge=64,
        le=8192,
    )
    concurrency: int = runtime(32, "parallel requests to a server", ge=1, le=4096)
    retries: int = runtime(5, "retries of a request whose answer did not come whole", ge=0, le=20)
    timeout_s: float = runtime(600.0, "seconds to wait for a server's answer", gt=0)
    patience_s: float = runtime(
        300.0, "seconds to wait for a server that is busy or restarts", ge=0
    )
    key_variable: str = runtime(
        "OPENAI_API_KEY", "environment variable that holds the server's key, if it wants one"
    )


def open_(params: CaptionParams) -> StageFunction:
    """The function that captions; the model is loaded when the first image needs it.

    Raises ModelError, from the first batch on.
    """
    return lambda batches: _caption(batches, params)


def _caption(batches: Iterable[Batch], params: CaptionParams) -> Iterator[pa.Table]:
    propose = _by_server if params.model.startswith(SERVED) else _by_model
    for some, found in propose(batches, params):
        yield _table(some, found, params)


Found = Mapping[int, Any]
"""Row of a batch -> the proposals of its picture, or the UnansweredError that says why there are
none."""


def _by_model(
    batches: Iterable[Batch], params: CaptionParams
) -> Iterator[tuple[Opened[Any], Found]]:
    """By a model in this process, batch by batch."""
    from surd.models.captioner import load_captioner
    from surd.models.devices import device_named, dtype_of
    from surd.models.memory import AtOnce
    from surd.stages.decoding import once, opened

    device = device_named(params.device)
    captioner = once(
        lambda: load_captioner(
            params.model,
            device=device,
            dtype=dtype_of(params.precision, device),
            prompt=params.prompt,
        )
    )

    def propose(some: Opened[Any], rows: Sequence[int]) -> list[list[Any]]:
        seeds = [_seed(some.table["id"][i].as_py(), params.seed) for i in rows]
        return captioner().propose([some.pictures[i] for i in rows], _wanted(params), seeds)

    at_once = AtOnce(params.batch_size)
    for some in opened(
        batches,
        lambda image: captioner().prepare(image),
        side_px=lambda: captioner().side_px,
        wanted=partial(_is_wanted, params),
    ):
        pieces = at_once.each(partial(propose, some), some.usable, _too_large)
        yield some, dict(zip(some.usable, chain(*pieces), strict=True))


def _by_server(
    batches: Iterable[Batch], params: CaptionParams
) -> Iterator[tuple[Opened[Any], Found]]:
    """By a server, which is sent pictures of later batches while it works on earlier ones."""
    from surd.models.served import ServedCaptioner, as_jpeg, open_chat
    from surd.net.chat import Manners
    from surd.stages.decoding import once, opened

    manners = Manners(
        concurrency=params.concurrency,
        retries=params.retries,
        timeout_s=params.timeout_s,
        patience_s=params.patience_s,
        key_variable=params.key_variable,
    )
    with ExitStack() as stack:
        captioner = once(
            lambda: ServedCaptioner(
                stack.enter_context(open_chat(params.model, manners)),
                params.prompt,
                _wanted(params),
            )
        )
        waiting: deque[tuple[Opened[Any], dict[int, Any]]] = deque()
        for some in opened(
            batches,
            lambda image: as_jpeg(image, params.image_side),
            side_px=lambda: params.image_side,
            wanted=partial(_is_wanted, params),
        ):
            for piece in some.pieces(_ROWS_AT_ONCE):
                asked = {i: _ask(captioner(), piece, i, params) for i in piece.usable}
                waiting.append((piece, asked))
            while _is_enough(waiting, params.concurrency):
                yield _answered(*waiting.popleft())
        while waiting:
            yield _answered(*waiting.popleft())


_ROWS_AT_ONCE = 8
"""Rows that are given out together: what a kill may lose beside what is under way."""
_REQUESTS_AHEAD = 4
"""Pictures that are with the server or wait for it, for each request that may be under way."""


def _ask(captioner: Any, some: Opened[Any], row: int, params: CaptionParams) -> Any:
    return captioner.propose(some.pictures[row], _seed(some.table["id"][row].as_py(), params.seed))


def _is_enough(waiting: Sequence[tuple[Opened[Any], dict[int, Any]]], concurrency: int) -> bool:
    """Whether the oldest rows are to be given out: they are done, or enough wait behind them."""
    if not waiting:
        return False
    done = all(future.done() for future in waiting[0][1].values())
    return done or sum(len(asked) for _, asked in waiting) > _REQUESTS_AHEAD * concurrency


def _answered(some: Opened[Any], futures: Mapping[int, Any]) -> tuple[Opened[Any], Found]:
    """What the server said of each picture, once it has."""
    from surd.net.chat import UnansweredError

    def outcome(future: Any) -> Any:
        try:
            return future.result()
        except UnansweredError as error:
            return error

    return some, {row: outcome(future) for row, future in futures.items()}


def _table(some: Opened[Any], found: Found, params: CaptionParams) -> pa.Table:
    given = _given(some.table, params)
    statuses = some.statuses
    details: list[str | None] = [None] * len(statuses)
    candidates = [[_candidate(text, "given") for text in texts] for texts in given]
    for i, proposals in found.items():
        if isinstance(proposals, Exception):
            details[i] = str(proposals)
        else:
            said = ((proposal.text, proposal.how) for proposal in proposals)
            candidates[i] += _different(said, candidates[i], clean=params.clean)
        if not getattr(proposals, "is_final", True):
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
    return [not texts or params.given != "only" for texts in _given(table, params)]


def _too_large(row: int) -> str:
    return (
        "not enough memory to caption even one picture; set caption.device to cpu, set "
        "caption.precision to bf16 or fp16, or use a smaller caption.model"
    )


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


def _seed(id_: str, seed: int) -> int:
    """Of a sample: the same on every run, whatever stands beside it."""
    return (int(id_[:15], 16) + seed) % 2**60


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
    """Rows of version 2, which took counts ("a dog and a dog") for repetitions."""
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
    version=3,
    reads={"images": ("bytes",), "samples": ("simple_prompt", "captions")},
    row_inputs={"images": ("sha256",), "samples": ("simple_prompt", "captions")},
    final=("ok", "empty"),
    passing=("no_answer",),
    upgrades={2: _cleaned_again},
    schema=CAPTIONS,
    params=CaptionParams,
    open=open_,
    models=lambda params: (params.model,),
    workers="one",
    batch_rows=64,
)
