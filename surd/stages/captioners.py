"""What captioners propose for the pictures of a stage's rows: in this process or on a server."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa
from pydantic import Field

from surd.errors import ModelError
from surd.params import SERVED, ModelName, Params, added, runtime
from surd.stages.base import Batch

if TYPE_CHECKING:
    from surd.models.captions import Style, Wanted
    from surd.net.chat import Chat
    from surd.stages.decoding import Opened


class CaptionerParams(Params):
    """Which model speaks about the images, and how it is reached."""

    model: ModelName = Field(
        default="Salesforce/blip-image-captioning-large",
        description="BLIP, or another image-text-to-text model: hub id or folder; or a model on an "
        "OpenAI-compatible server, as openai:http://localhost:8000/v1#MODEL",
    )
    prompt: str | None = Field(
        default=None,
        description="question for models other than BLIP; default: ask for one sentence",
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


def is_of_use(params: Params, table: pa.Table) -> list[bool]:
    """Of each row whether what a model says of its image could be published: not without the
    column ``prompt`` where ``params.require`` has the complex prompt."""
    if "complex_prompt" not in _required(params):
        return [True] * table.num_rows
    return [bool((prompt or "").strip()) for prompt in table["prompt"].to_pylist()]


def statuses_of(some: Opened[Any], params: Params) -> list[str]:
    """As ``some`` has them; ``no_prompt`` in place of ok for images that are of no use."""
    return [
        "no_prompt" if status == "ok" and not of_use else status
        for status, of_use in zip(some.statuses, is_of_use(params, some.table), strict=True)
    ]


def leaves(params: Params) -> dict[str, str]:
    """See :class:`surd.stages.base.Stage`. Nothing where a complex prompt is required, as by
    default: the fingerprints of such parts are those from before anything was left out."""
    require = _required(params)
    if not require or "complex_prompt" in require:
        return {}
    return {"publish.require": ", ".join(require)}


def _required(params: Params) -> Sequence[str]:
    """What ``publish.require`` says; nothing where the parameters are not a recipe's."""
    required: Sequence[str] = getattr(params, "require", ())
    return required


@dataclass(frozen=True)
class Asking:
    """What a captioner is asked for."""

    params: CaptionerParams
    wanted: Wanted
    style: Style = "simple"
    seed: int = 0
    rows: Callable[[pa.Table], Sequence[bool]] | None = None
    """Of each row, whether its picture is to be looked at; None: every one."""


Found = Mapping[int, Any]
"""Row of a batch -> the proposals of its picture, or the UnansweredError that says why there are
none."""


def proposals(batches: Iterable[Batch], asking: Asking) -> Iterator[tuple[Opened[Any], Found]]:
    """The rows in order, some at a time, with what was proposed. The model is loaded when the first
    image needs it. Raises ModelError."""
    propose = _by_server if asking.params.model.startswith(SERVED) else _by_model
    return propose(batches, asking)


def _by_model(batches: Iterable[Batch], asking: Asking) -> Iterator[tuple[Opened[Any], Found]]:
    """By a model in this process, batch by batch."""
    from surd.models.captioner import load_captioner
    from surd.models.devices import device_named, dtype_of
    from surd.models.memory import AtOnce
    from surd.stages.decoding import once, opened

    params = asking.params
    device = device_named(params.device)
    captioner = once(
        lambda: load_captioner(
            params.model,
            device=device,
            dtype=dtype_of(params.precision, device),
            prompt=params.prompt,
            style=asking.style,
        )
    )

    def propose(some: Opened[Any], rows: Sequence[int]) -> Sequence[Any]:
        seeds = [_seed(some.table["id"][i].as_py(), asking.seed) for i in rows]
        return captioner().propose([some.pictures[i] for i in rows], asking.wanted, seeds)

    at_once = AtOnce(params.batch_size)
    for some in opened(
        batches,
        lambda image: captioner().prepare(image),
        side_px=lambda: captioner().side_px,
        wanted=asking.rows,
    ):
        pieces = at_once.each(partial(propose, some), some.usable, partial(_too_large, asking))
        yield some, dict(zip(some.usable, chain(*pieces), strict=True))


def _by_server(batches: Iterable[Batch], asking: Asking) -> Iterator[tuple[Opened[Any], Found]]:
    """By a server, which is sent pictures of later batches while it works on earlier ones."""
    from surd.models.served import ServedCaptioner, as_jpeg
    from surd.stages.decoding import once, opened

    params = asking.params
    with ExitStack() as stack:
        captioner = once(
            lambda: ServedCaptioner(
                stack.enter_context(_chat(params)),
                params.prompt,
                asking.wanted,
                asking.style,
            )
        )
        waiting: deque[_Asked] = deque()

        def answered() -> Iterator[tuple[Opened[Any], Found]]:
            for some in opened(
                batches,
                lambda image: as_jpeg(image, params.image_side),
                side_px=lambda: params.image_side,
                wanted=asking.rows,
            ):
                for piece in some.pieces(_ROWS_AT_ONCE):
                    asked = {i: _ask(captioner(), piece, i, asking.seed) for i in piece.usable}
                    waiting.append((piece, asked))
                while _is_enough(waiting, params.concurrency):
                    yield _answered(*waiting.popleft())
            while waiting:
                yield _answered(*waiting.popleft())

        yield from _from_the_first_caption_on(answered(), waiting, params.model)


def _chat(params: CaptionerParams) -> Chat:
    from surd.models.served import open_chat
    from surd.net.chat import Manners

    manners = Manners(
        concurrency=params.concurrency,
        retries=params.retries,
        timeout_s=params.timeout_s,
        patience_s=params.patience_s,
        key_variable=params.key_variable,
    )
    return open_chat(params.model, manners)


def check_server(params: CaptionerParams) -> None:
    """Raise ModelError where the model is on a server that does not answer, or refuses the key."""
    if params.model.startswith(SERVED):
        with _chat(params):
            pass


_ROWS_AT_ONCE = 8
"""Rows that are given out together: what a kill may lose beside what is under way."""
_WITHOUT_CAPTION = 8
"""So many pictures without one caption are the server's fault, or that of how it is asked."""
_REQUESTS_AHEAD = 4
"""Pictures that are with the server or wait for it, for each request that may be under way."""


_Asked = tuple["Opened[Any]", dict[int, Any]]
"""Rows, and of those whose picture is with the server what it will say: row -> future."""


def _from_the_first_caption_on(
    answered: Iterator[tuple[Opened[Any], Found]], waiting: Iterable[_Asked], model: str
) -> Iterator[tuple[Opened[Any], Found]]:
    """The rows as they come. Those before the first caption wait for it, so that nothing is kept of
    a server that captions no picture; those ``waiting`` with the server may get it too.

    Raises ModelError where ``_WITHOUT_CAPTION`` pictures have none.
    """
    held: list[tuple[Opened[Any], Found]] = []
    reasons: Counter[str] = Counter()
    for rows in answered:
        held.append(rows)
        reasons.update(str(one) for one in rows[1].values() if isinstance(one, Exception))
        has_caption = any(not isinstance(one, Exception) for one in rows[1].values())
        is_enough = reasons.total() >= _WITHOUT_CAPTION
        if has_caption or (is_enough and _any_caption(waiting)):
            yield from held
            yield from answered
            return
        if is_enough:
            [(why, times)] = reasons.most_common(1)
            raise ModelError(
                f"{model}: none of {reasons.total()} pictures got a caption; most often "
                f"({times} times): {why}; nothing was replaced, and once this is mended the same "
                "command asks again"
            )
        if not reasons:  # nobody was asked
            yield held.pop()
    yield from held


def _any_caption(waiting: Iterable[_Asked]) -> bool:
    """Whether any of them gets one; waits for that."""
    futures = [future for _, asked in waiting for future in asked.values()]
    return any(future.exception() is None for future in as_completed(futures))


def _ask(captioner: Any, some: Opened[Any], row: int, seed: int) -> Any:
    return captioner.propose(some.pictures[row], _seed(some.table["id"][row].as_py(), seed))


def _is_enough(waiting: Sequence[_Asked], concurrency: int) -> bool:
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


def _too_large(asking: Asking, row: int) -> str:
    model = "caption.model" if asking.style == "simple" else f"caption.{asking.style}.model"
    return (
        "not enough memory to caption even one picture; set caption.device to cpu, set "
        f"caption.precision to bf16 or fp16, or use a smaller {model}"
    )


def _seed(id_: str, seed: int) -> int:
    """Of a sample: the same on every run, whatever stands beside it."""
    return (int(id_[:15], 16) + seed) % 2**60
