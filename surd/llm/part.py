"""One part: which prompts need a vector, and the part's rows once they have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from surd.llm.batches import Tokens
from surd.llm.layout import schema
from surd.llm.params import EmbedLlmParams
from surd.models.llm import Llm
from surd.workspace import DamagedPartError, Workspace

READS = {"clip": ("simple_prompt",), "verdicts": ("keep",)}


@dataclass(frozen=True)
class Earlier:
    """What an earlier version of a part has, made with the settings of today."""

    rows: Mapping[str, int]
    """Prompt -> row in `table`."""
    table: pa.Table


@dataclass(frozen=True)
class Prepared:
    """A part that was read and whose prompts are tokens already."""

    part: int
    ids: list[str]
    prompts: list[str | None]
    keep: list[bool]
    earlier: dict[int, Earlier]
    """By layer."""
    texts: list[str]
    """Different prompts that need a vector."""
    tokens: list[Tokens]
    cut: list[bool]


def prepare(
    workspace: Workspace, part: int, earlier: dict[int, str], params: EmbedLlmParams, llm: Llm
) -> Prepared:
    """Read a part and tokenize what is new.

    `earlier` are the layers to compute, and for each the group whose rows may be reused, or "".
    """
    clip = workspace.read("clip", part, ["id", "simple_prompt"])
    ids, prompts = clip["id"].to_pylist(), clip["simple_prompt"].to_pylist()
    keep = workspace.read("verdicts", part, ["keep"])["keep"].to_pylist()
    known = {layer: _earlier(workspace, group, part) for layer, group in earlier.items()}
    wanted = dict.fromkeys(p for p, kept in zip(prompts, keep, strict=True) if kept and p)
    texts = [p for p in wanted if not all(p in one.rows for one in known.values())]
    around = [params.template.replace("{prompt}", text) for text in texts]
    ids_of = llm.tokenize(around, params.special_tokens) if texts else []
    return Prepared(
        part,
        ids,
        prompts,
        keep,
        known,
        texts,
        [tokens[: params.max_tokens] for tokens in ids_of],
        [len(tokens) > params.max_tokens for tokens in ids_of],
    )


def _earlier(workspace: Workspace, group: str, part: int) -> Earlier:
    if not group:
        return Earlier({}, pa.table({}))
    try:
        table = workspace.read(group, part)
    except DamagedPartError:
        return Earlier({}, pa.table({}))
    pairs = zip(table["status"].to_pylist(), table["simple_prompt"].to_pylist(), strict=True)
    known = ("ok", "cut", "overflow", "no_tokens")
    rows = {prompt: i for i, (status, prompt) in enumerate(pairs) if status in known}
    return Earlier(rows, table)


def table_of(
    some: Prepared,
    layer: int,
    vectors: Sequence[npt.NDArray[np.float16]],
    width: int,
    params: EmbedLlmParams,
) -> pa.Table:
    """The part's rows for one layer; `vectors` are those of ``some.texts``, empty without tokens.

    A prompt that the earlier version has keeps its vector from there.
    """
    shape = schema(width, params.pool)
    embedding = shape.field("embedding").type
    fresh = {text: i for i, text in enumerate(some.texts)}
    finite = [bool(np.isfinite(vector).all()) for vector in vectors]
    earlier = some.earlier[layer]
    index: list[int | None] = []
    statuses: list[str] = []
    counts: list[int | None] = []
    old_status, old_tokens = (
        earlier.table[name].to_pylist() if earlier.rows else [] for name in ("status", "tokens")
    )
    offset = earlier.table.num_rows if earlier.rows else 0
    for prompt, kept in zip(some.prompts, some.keep, strict=True):
        at: int | None = None
        count: int | None = None
        if not kept:
            status = "dropped"
        elif not prompt:
            status = "no_prompt"
        elif prompt in earlier.rows:
            at = earlier.rows[prompt]
            status, count = old_status[at], old_tokens[at]
        else:
            number = fresh[prompt]
            count = len(some.tokens[number])
            status = "cut" if some.cut[number] else "ok"
            if count == 0:
                status = "no_tokens"
            elif not finite[number]:
                status = "overflow"
            else:
                at = offset + number
        index.append(at)
        statuses.append(status)
        counts.append(count)
    pieces = [_array(vectors, finite, embedding)]
    if earlier.rows:
        pieces.insert(0, earlier.table["embedding"].combine_chunks())
    rows = pa.concat_arrays(pieces).take(pa.array(index, pa.int64()))
    return pa.Table.from_arrays(
        [
            pa.array(some.ids, pa.string()),
            pa.array(statuses, pa.string()),
            pa.array(some.prompts, pa.string()),
            pa.array(counts, pa.int32()),
            rows,
        ],
        schema=shape,
    )


def _array(
    vectors: Sequence[npt.NDArray[np.float16]], finite: Sequence[bool], type_: pa.DataType
) -> pa.Array:
    """Vectors, or lists of them, as Arrow holds them; null where a value is not finite."""
    good = [v if fine and v.size else None for v, fine in zip(vectors, finite, strict=True)]
    nested = type_.value_type if pa.types.is_list(type_) else type_
    width = nested.list_size
    flat = np.concatenate([v.ravel() for v in good if v is not None] or [np.empty(0, np.float16)])
    missing = np.array([v is None for v in good], bool)
    if pa.types.is_list(type_):
        sizes = [0 if v is None else len(v) for v in good]
        offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int32())
        states = pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float16()), type=nested)
        return pa.ListArray.from_arrays(offsets, states, type=type_, mask=pa.array(missing))
    rows = np.full(len(good), -1, np.int64)
    rows[~missing] = np.arange(int((~missing).sum()))
    dense = pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float16()), width).cast(type_)
    return dense.take(pa.array(rows, mask=missing))
