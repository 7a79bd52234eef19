"""One part: which prompts need a vector, and the part's rows once they have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from surd.llm.batches import Tokens
from surd.llm.layout import OTHERS, schema
from surd.llm.share import Entry
from surd.models.llm import Llm
from surd.recipe.embed_llm import EmbedLlmParams, Texts
from surd.store.aligned import read_aligned
from surd.store.workspace import Workspace

_SIMPLE = {"clip": ("simple_prompt",), "verdicts": ("keep",)}
_ALL = {**_SIMPLE, "captions": ("candidates",), "prompts": ("complex_prompt",)}


def reads_of(texts: Texts) -> Mapping[str, tuple[str, ...]]:
    """Group -> the columns that a part's texts are read from."""
    return _ALL if texts == "all" else _SIMPLE


@dataclass(frozen=True)
class Rows:
    """The rows of a part, before they have vectors."""

    ids: list[str]
    prompts: list[str | None]
    keep: list[bool]
    others: list[list[str]]
    """Of kept samples, the texts beside the simple prompt."""

    @property
    def wanted(self) -> list[str]:
        """Different texts of kept samples."""
        rows = zip(self.prompts, self.keep, self.others, strict=True)
        texts = [[prompt, *others] for prompt, keep, others in rows if keep]
        return list(dict.fromkeys(text for some in texts for text in some if text))


@dataclass(frozen=True)
class Tokenized:
    """Prompts as the model takes them."""

    prompts: list[str]
    tokens: list[Tokens]
    """Empty where the model cannot take the prompt."""
    statuses: list[str]

    def take(self, rows: Sequence[int]) -> Tokenized:
        """Some of them."""
        return Tokenized(
            [self.prompts[row] for row in rows],
            [self.tokens[row] for row in rows],
            [self.statuses[row] for row in rows],
        )


def read_rows(workspace: Workspace, part: int, texts: Texts = "simple") -> Rows:
    """Read what a part needs. Raises WorkspaceError when that is not there."""
    tables = read_aligned(workspace, part, reads_of(texts))
    ids, prompts = (tables["clip"][name].to_pylist() for name in ("id", "simple_prompt"))
    keep = tables["verdicts"]["keep"].to_pylist()
    others: list[list[str]] = [[] for _ in ids]
    if texts == "all":
        candidates = tables["captions"]["candidates"].to_pylist()
        complex_ones = tables["prompts"]["complex_prompt"].to_pylist()
        for row in np.flatnonzero(keep):
            said = [one["text"] for one in candidates[row] or ()]
            others[row] = [text for text in (*said, complex_ones[row]) if text]
    return Rows(ids, prompts, keep, others)


def tokenize(prompts: Sequence[str], params: EmbedLlmParams, llm: Llm) -> Tokenized:
    """Put the template around the prompts, cut them at the longest length allowed."""
    around = [params.template.replace("{prompt}", prompt) for prompt in prompts]
    ids = llm.tokenize(around, params.special_tokens) if around else []
    longest = min(params.max_tokens, llm.window or params.max_tokens)
    found = Tokenized(list(prompts), [], [])
    for some in ids:
        kept = some[:longest]
        if not kept:
            status = "no_tokens"
        elif max(kept) >= llm.vocabulary:
            kept, status = [], "unknown_token"
        else:
            status = "cut" if len(some) > longest else "ok"
        found.tokens.append(kept)
        found.statuses.append(status)
    return found


def entries_of(texts: Tokenized, vectors: Sequence[npt.NDArray[np.float16]]) -> dict[str, Entry]:
    """What the model gave, as it will be written: without what is no number."""
    found: dict[str, Entry] = {}
    for prompt, tokens, status, vector in zip(
        texts.prompts, texts.tokens, texts.statuses, vectors, strict=True
    ):
        if np.isnan(vector).any():
            status = "not_finite"
        elif np.isinf(vector).any():
            status = "overflow"
        good = status in ("ok", "cut")
        found[prompt] = Entry(status, len(tokens), vector if good else None)
    return found


def table_of(
    rows: Rows, entries: Mapping[str, Entry], width: int, params: EmbedLlmParams
) -> pa.Table:
    """The part's rows for one layer."""
    shape = schema(width, params.pool, params.texts)
    chosen: list[Entry] = []
    for prompt, keep in zip(rows.prompts, rows.keep, strict=True):
        if keep and prompt:
            chosen.append(entries[prompt])
        else:
            chosen.append(Entry("no_prompt" if keep else "dropped", 0, None))
    counts = [one.tokens if one.status not in ("no_prompt", "dropped") else None for one in chosen]
    columns = [
        pa.array(rows.ids, pa.string()),
        pa.array([one.status for one in chosen], pa.string()),
        pa.array(rows.prompts, pa.string()),
        pa.array(counts, pa.int32()),
        _array([one.vector for one in chosen], shape.field("embedding").type),
    ]
    if params.texts == "all":
        columns += _others(rows, entries, shape.field("other_embeddings").type)
    return pa.Table.from_arrays(columns, schema=shape)


def _others(rows: Rows, entries: Mapping[str, Entry], type_: pa.DataType) -> list[pa.Array]:
    """The columns ``others`` and ``other_embeddings``; each text once in a part."""
    there = {prompt for prompt, keep in zip(rows.prompts, rows.keep, strict=True) if keep}
    told: list[list[dict[str, Any]]] = []
    vectors: list[npt.NDArray[np.float16]] = []
    width = type_.value_type.list_size
    for others in rows.others:
        new = [text for text in dict.fromkeys(others) if text not in there]
        there.update(new)
        told.append(
            [{"text": t, "status": entries[t].status, "tokens": entries[t].tokens} for t in new]
        )
        found = [entries[text].vector for text in new]
        flat = [vector.reshape(-1, width) for vector in found if vector is not None]
        vectors.append(np.concatenate([np.empty((0, width), np.float16), *flat]))
    return [pa.array(told, OTHERS), _array(vectors, type_)]


def _array(vectors: Sequence[npt.NDArray[np.float16] | None], type_: pa.DataType) -> pa.Array:
    """Vectors, or lists of them, as Arrow holds them."""
    there = [vector for vector in vectors if vector is not None]
    flat = np.concatenate([vector.ravel() for vector in there] or [np.empty(0, np.float16)])
    missing = np.array([vector is None for vector in vectors], bool)
    values = pa.array(flat, pa.float16())
    if pa.types.is_list(type_):
        sizes = [0 if vector is None else len(vector) for vector in vectors]
        offsets = pa.array(np.concatenate([[0], np.cumsum(sizes)]), pa.int32())
        states = pa.FixedSizeListArray.from_arrays(values, type=type_.value_type)
        return pa.ListArray.from_arrays(offsets, states, type=type_, mask=pa.array(missing))
    rows = np.zeros(len(vectors), np.int64)
    rows[~missing] = np.arange(len(there))
    dense = pa.FixedSizeListArray.from_arrays(values, type=type_)
    return dense.take(pa.array(rows, mask=missing))
