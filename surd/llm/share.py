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
            table = workspace.read(group, part, ["simple_prompt", "status"])
        except DamagedPartError:
            continue
        for prompt, status in zip(*(column.to_pylist() for column in table.columns), strict=True):
            if status in USABLE:
                places.setdefault(prompt, []).append(part)
    return places


def read_entries(
    workspace: Workspace, group: str, part: int, prompts: set[str] | None = None
) -> dict[str, Entry]:
    """What a part has of some prompts, or of all. Raises DamagedPartError; the part is noted, and
    the next run does without it."""
    return entries_in(workspace.read(group, part, _COLUMNS), prompts)


def entries_in(table: pa.Table, prompts: set[str] | None = None) -> dict[str, Entry]:
    """What the rows of a part say of some prompts, or of all."""
    column = table["embedding"].combine_chunks()
    texts, statuses, tokens = (table[name].to_pylist() for name in _COLUMNS[:3])
    return {
        text: Entry(status, count, vector_of(column, row))
        for row, (text, status, count) in enumerate(zip(texts, statuses, tokens, strict=True))
        if status in USABLE and (prompts is None or text in prompts)
    }


def vector_of(column: pa.Array, row: int) -> npt.NDArray[np.float16] | None:
    """One value of an embedding column: ``[h]``, or ``[tokens, h]`` of a list of them."""
    value = column[row].values
    if value is None:
        return None
    if pa.types.is_fixed_size_list(value.type):
        flat: npt.NDArray[np.float16] = value.flatten().to_numpy()
        return flat.reshape(-1, value.type.list_size)
    return np.asarray(value.to_numpy())
