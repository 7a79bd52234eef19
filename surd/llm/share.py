"""Prompts that several parts have: the first part computes them, the others are given them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from surd.store.workspace import DamagedPartError, Workspace

USABLE = ("ok", "cut", "overflow", "no_tokens", "unknown_token")
"""Statuses of rows whose prompt needs no second look by the same model."""
_COLUMNS = ("simple_prompt", "status", "tokens", "embedding")
_OTHERS = ("others", "other_embeddings")
VECTOR = ("ok", "cut")
"""Of rows that have a vector."""
Reusable = Mapping[int, Sequence[int]]
"""Layer -> parts that were made with the settings of today."""


@dataclass(frozen=True)
class Entry:
    """What is known of a prompt at one layer."""

    status: str
    tokens: int
    vector: npt.NDArray[np.float16] | None


@dataclass(frozen=True)
class Wanted:
    """What a part needs."""

    part: int
    prompts: list[str]
    """Different ones, of kept samples."""
    layers: Sequence[int]


@dataclass(frozen=True)
class Known:
    """What parts that are there have of each layer."""

    groups: Mapping[int, str]
    """Where each layer lies."""
    parts: Reusable
    places: Mapping[int, Mapping[str, Sequence[int]]]
    """Layer -> prompt -> those of the parts that have it."""


def find_known(workspace: Workspace, groups: Mapping[int, str], reusable: Reusable) -> Known:
    """Read all prompts of the reusable parts: once for a process, however many parts it is given
    at a time."""
    places = {n: _on_disk(workspace, groups[n], parts) for n, parts in reusable.items()}
    return Known(groups, reusable, places)


@dataclass
class Share:
    """What each part computes and what it is given, and what is held for parts to come."""

    new: dict[int, list[str]] = field(default_factory=dict)
    """Part -> prompts to compute."""
    held: dict[tuple[int, str], Entry] = field(default_factory=dict)
    """By layer and prompt."""
    needs: dict[int, list[str]] = field(default_factory=dict)
    """Part -> prompts that others compute, or have."""
    _needed: Counter[str] = field(default_factory=Counter)

    def hold(self, layer: int, entries: Mapping[str, Entry]) -> None:
        """Keep what later parts need."""
        for prompt, entry in entries.items():
            if self._needed[prompt]:
                self.held[layer, prompt] = entry

    def given(self, wanted: Wanted, layer: int) -> dict[str, Entry]:
        """What others had of the prompts a part needs."""
        places = ((prompt, self.held.get((layer, prompt))) for prompt in self.needs[wanted.part])
        return {prompt: entry for prompt, entry in places if entry is not None}

    def release(self, wanted: Wanted) -> None:
        """The part has been given what it needs."""
        for prompt in self.needs.pop(wanted.part):
            self._needed[prompt] -= 1
            if not self._needed[prompt]:
                for layer in wanted.layers:
                    self.held.pop((layer, prompt), None)

    def need(self, part: int, prompt: str) -> None:
        """The part is to be given the prompt."""
        self.needs[part].append(prompt)
        self._needed[prompt] += 1


def divide(
    workspace: Workspace,
    parts: Sequence[Wanted],
    known: Known,
    left: Mapping[int, Mapping[str, Entry]],
) -> Share:
    """Say which part computes which prompts, in the order of the parts.

    What a part has itself it neither computes nor is given. `left` is what a run that was cut off
    had of each layer.
    """
    got = {layer: dict(entries) for layer, entries in left.items()}
    for layer, part, prompts in _to_fetch(parts, known, left):
        got[layer] |= read_entries(workspace, known.groups[layer], part, prompts)
    share = Share()
    computed: dict[str, set[int]] = {}
    for wanted in parts:
        share.new[wanted.part], share.needs[wanted.part] = [], []
        for prompt in wanted.prompts:
            own = [wanted.part in known.places[n].get(prompt, ()) for n in wanted.layers]
            if all(own):
                continue
            given = all(o or prompt in got[n] for o, n in zip(own, wanted.layers, strict=True))
            if given or computed.get(prompt, set()) >= set(wanted.layers):
                share.need(wanted.part, prompt)
            else:
                share.new[wanted.part].append(prompt)
                computed[prompt] = set(wanted.layers)
    for layer, entries in got.items():
        share.hold(layer, entries)
    return share


def _to_fetch(
    parts: Sequence[Wanted], known: Known, left: Mapping[int, Mapping[str, Entry]]
) -> Iterator[tuple[int, int, set[str]]]:
    """Layer, part, and the prompts that others need of it.

    Some may have gone when it is read, since another process may write the part anew.
    """
    fetch: dict[tuple[int, int], set[str]] = {}
    for wanted in parts:
        for prompt in wanted.prompts:
            places = {n: known.places[n].get(prompt, ()) for n in wanted.layers}
            if all(places[n] or prompt in left[n] for n in wanted.layers):
                for layer, place in places.items():
                    if wanted.part not in place and prompt not in left[layer]:
                        fetch.setdefault((layer, place[0]), set()).add(prompt)
    for (layer, part), prompts in fetch.items():
        yield layer, part, prompts


def _on_disk(workspace: Workspace, group: str, parts: Sequence[int]) -> dict[str, list[int]]:
    """Prompt -> those of the parts that have it."""
    places: dict[str, list[int]] = {}
    for part in parts:
        try:
            others = _OTHERS[:1] if has_others(workspace, group, part) else ()
            table = workspace.read(group, part, ["simple_prompt", "status", *others])
        except DamagedPartError:
            continue
        prompts, statuses = (table[name].to_pylist() for name in ("simple_prompt", "status"))
        pairs = list(zip(prompts, statuses, strict=True))
        for some in table["others"].to_pylist() if others else ():
            pairs += [(one["text"], one["status"]) for one in some]
        for prompt, status in pairs:
            if status in USABLE:
                places.setdefault(prompt, []).append(part)
    return places


def has_others(workspace: Workspace, group: str, part: int) -> bool:
    """Whether a part holds more texts than the simple prompts. Raises DamagedPartError."""
    info = workspace.part_info(group, part)
    return info is not None and info.extra.get("llm", {}).get("texts") == "all"


def read_entries(
    workspace: Workspace, group: str, part: int, prompts: set[str] | None = None
) -> dict[str, Entry]:
    """What a part has of some prompts, or of all. Raises DamagedPartError; the part is noted, and
    the next run does without it."""
    others = _OTHERS if has_others(workspace, group, part) else ()
    return entries_in(workspace.read(group, part, [*_COLUMNS, *others]), prompts)


def entries_in(table: pa.Table, prompts: set[str] | None = None) -> dict[str, Entry]:
    """What the rows of a part say of some prompts, or of all."""
    column = table["embedding"].combine_chunks()
    texts, statuses, tokens = (table[name].to_pylist() for name in _COLUMNS[:3])
    found = {
        text: Entry(status, count, vector_of(column, row))
        for row, (text, status, count) in enumerate(zip(texts, statuses, tokens, strict=True))
        if status in USABLE and (prompts is None or text in prompts)
    }
    if "others" in table.column_names:
        per_token = pa.types.is_list(column.type)
        for text, entry in _others_in(table, per_token=per_token):
            if entry.status in USABLE and (prompts is None or text in prompts):
                found[text] = entry
    return found


def _others_in(table: pa.Table, *, per_token: bool) -> Iterator[tuple[str, Entry]]:
    column = table["other_embeddings"].combine_chunks()
    for row, some in enumerate(table["others"].to_pylist()):
        vectors = vector_of(column, row)
        first = 0
        for one in some:
            vector = None
            if one["status"] in VECTOR and vectors is not None:
                count = one["tokens"] if per_token else 1
                piece = vectors[first : first + count]
                vector = piece if per_token else piece[0]
                first += count
            yield one["text"], Entry(one["status"], one["tokens"], vector)


def vector_of(column: pa.Array, row: int) -> npt.NDArray[np.float16] | None:
    """One value of an embedding column: ``[h]``, or ``[tokens, h]`` of a list of them."""
    value = column[row].values
    if value is None:
        return None
    if pa.types.is_fixed_size_list(value.type):
        flat: npt.NDArray[np.float16] = value.flatten().to_numpy()
        return flat.reshape(-1, value.type.list_size)
    return np.asarray(value.to_numpy())
