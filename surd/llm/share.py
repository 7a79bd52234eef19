"""Prompts that several parts have: the first part computes them, the others are given them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from surd.store.workspace import DamagedPartError, Workspace

USABLE = ("ok", "cut", "overflow", "no_tokens")
"""Statuses of rows whose prompt needs no second look by the same model."""
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


@dataclass
class Share:
    """What each part computes, and what is held for parts to come."""

    new: dict[int, list[str]] = field(default_factory=dict)
    """Part -> prompts to compute."""
    held: dict[tuple[int, str], Entry] = field(default_factory=dict)
    """By layer and prompt."""
    _needed: Counter[str] = field(default_factory=Counter)

    def hold(self, layer: int, entries: Mapping[str, Entry]) -> None:
        """Keep what later parts need."""
        for prompt, entry in entries.items():
            if self._needed[prompt]:
                self.held[layer, prompt] = entry

    def given(self, wanted: Wanted, layer: int) -> dict[str, Entry]:
        """What other parts had of the prompts a part needs."""
        places = ((prompt, self.held.get((layer, prompt))) for prompt in wanted.prompts)
        return {prompt: entry for prompt, entry in places if entry is not None}

    def release(self, wanted: Wanted) -> None:
        """The part has been given what it needs."""
        computed = set(self.new[wanted.part])
        for prompt in wanted.prompts:
            if prompt not in computed and self._needed[prompt]:
                self._needed[prompt] -= 1
                if not self._needed[prompt]:
                    for layer in wanted.layers:
                        self.held.pop((layer, prompt), None)

    def need(self, prompt: str) -> None:
        """One more part is to be given the prompt."""
        self._needed[prompt] += 1


def divide(
    workspace: Workspace, parts: Iterable[Wanted], groups: Mapping[int, str], reusable: Reusable
) -> Share:
    """Say which part computes which prompts, in the order of the parts.

    `groups` says where each layer lies. What a part has itself it neither computes nor is given.
    """
    there = {n: _on_disk(workspace, groups[n], known) for n, known in reusable.items()}
    share = Share()
    computed: dict[str, set[int]] = {}
    fetch: dict[tuple[int, int], set[str]] = {}
    for wanted in parts:
        share.new[wanted.part] = []
        for prompt in wanted.prompts:
            found = [there[layer].get(prompt) for layer in wanted.layers]
            if all(place is not None for place in found):
                if any(wanted.part not in (place or ()) for place in found):
                    share.need(prompt)
                    for layer, place in zip(wanted.layers, found, strict=True):
                        fetch.setdefault((layer, (place or [0])[0]), set()).add(prompt)
            elif computed.get(prompt, set()) >= set(wanted.layers):
                share.need(prompt)
            else:
                share.new[wanted.part].append(prompt)
                computed[prompt] = set(wanted.layers)
    for (layer, part), prompts in fetch.items():
        share.hold(layer, read_entries(workspace, groups[layer], part, prompts))
    return share


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
    table = workspace.read(group, part, ["simple_prompt", "status", "tokens", "embedding"])
    column = table["embedding"].combine_chunks()
    texts, statuses, tokens = (
        table[name].to_pylist() for name in ("simple_prompt", "status", "tokens")
    )
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
