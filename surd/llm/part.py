"""One part: which prompts need a vector, and the part's rows once they have one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from surd.llm.batches import Tokens
from surd.llm.layout import schema
from surd.llm.share import Entry
from surd.models.llm import Llm
from surd.recipe.embed_llm import EmbedLlmParams
from surd.store.aligned import read_aligned
from surd.store.workspace import Workspace

READS = {"clip": ("simple_prompt",), "verdicts": ("keep",)}


@dataclass(frozen=True)
class Rows:
    """The rows of a part, before they have vectors."""

    ids: list[str]
    prompts: list[str | None]
    keep: list[bool]

    @property
    def wanted(self) -> list[str]:
        """Different prompts of kept samples."""
        pairs = zip(self.prompts, self.keep, strict=True)
        return list(dict.fromkeys(prompt for prompt, keep in pairs if keep and prompt))


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


def read_rows(workspace: Workspace, part: int) -> Rows:
    """Read what a part needs. Raises WorkspaceError when that is not there."""
    tables = read_aligned(workspace, part, READS)
    ids, prompts = (tables["clip"][name].to_pylist() for name in ("id", "simple_prompt"))
    return Rows(ids, prompts, tables["verdicts"]["keep"].to_pylist())


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
    shape = schema(width, params.pool)
    chosen: list[Entry] = []
    for prompt, keep in zip(rows.prompts, rows.keep, strict=True):
        if keep and prompt:
            chosen.append(entries[prompt])
        else:
            chosen.append(Entry("no_prompt" if keep else "dropped", 0, None))
    counts = [one.tokens if one.status not in ("no_prompt", "dropped") else None for one in chosen]
    return pa.Table.from_arrays(
        [
            pa.array(rows.ids, pa.string()),
            pa.array([one.status for one in chosen], pa.string()),
            pa.array(rows.prompts, pa.string()),
            pa.array(counts, pa.int32()),
            _array([one.vector for one in chosen], shape.field("embedding").type),
        ],
        schema=shape,
    )


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
