"""What the text encoders say of prompts: each distinct one once, on disk and found by its text.

Each part is a safetensors file of ``states`` ``[n, s, d]``, and for SDXL ``pooled`` ``[n, p]``, in
float16; its metadata holds the texts. A folder serves every dataset, and grows by what is new.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from surd.adapter.encoding import Encoded, encode
from surd.errors import SurdError
from surd.models.hub import identity_of
from surd.models.memory import AtOnce
from surd.progress import Tick
from surd.store.storage import Storage
from surd.training.parts import Alone, Team, is_whole, shared_folder, write_part
from surd.untrusted import parse_json

_PART_TEXTS, _AT_ONCE = 256, 64


class Texts(Protocol):
    """The states of prompts."""

    def take(self, texts: Sequence[str]) -> Encoded:
        """In the order of `texts`, float32 on the CPU."""


@dataclass(frozen=True)
class CachedTexts:
    """Out of a folder's parts."""

    parts: list[dict[str, torch.Tensor]]
    """Mapped from disk."""
    places: Mapping[str, tuple[int, int]]
    """Text -> part and row."""

    def take(self, texts: Sequence[str]) -> Encoded:
        """See `Texts`. Raises KeyError for a text that was not encoded."""
        places = [self.places[text] for text in texts]
        states = torch.stack([self.parts[part]["states"][row] for part, row in places]).float()
        if "pooled" not in self.parts[0]:
            return Encoded(states, None)
        pooled = torch.stack([self.parts[part]["pooled"][row] for part, row in places]).float()
        return Encoded(states, pooled)


@dataclass(frozen=True)
class FreshTexts:
    """Encoded as they are asked for."""

    pipeline: Any
    at_once: AtOnce

    def take(self, texts: Sequence[str]) -> Encoded:
        """See `Texts`. Raises ModelError when the memory does not suffice for one."""
        return _encoded(self.pipeline, texts, self.at_once)


def fresh_texts(pipeline: Any) -> FreshTexts:
    """Of which nothing is computed yet."""
    return FreshTexts(pipeline, AtOnce(_AT_ONCE))


def cached_texts(
    texts: Sequence[str],
    pipeline: Any,
    diffusion: str,
    folder: Path,
    team: Team | None = None,
    tick: Tick = lambda counts: None,
) -> CachedTexts:
    """Encode those of the distinct `texts` that are not there yet or damaged, and open them all.

    Of a team, each process encodes every so many parts; another team that wants the same folder
    waits for this one. Raises SurdError.
    """
    team = team or Alone()
    key = hashlib.sha256(identity_of(diffusion).encode()).hexdigest()[:16]
    at_once = AtOnce(_AT_ONCE)
    with shared_folder(folder / f"texts-{key}", team) as storage:
        there, damaged, free = _there(storage)
        team.wait_for_everyone()  # before anyone writes what another would find there
        for name in damaged if team.process_index == 0 else ():
            storage.delete(name)
        missing = [text for text in texts if text not in there]
        tick({"ok": len(texts) - len(missing)})
        for number, first in enumerate(range(0, len(missing), _PART_TEXTS)):
            some = missing[first : first + _PART_TEXTS]
            if number % team.num_processes == team.process_index:
                _write(storage, f"part-{free + number:05d}.safetensors", pipeline, some, at_once)
            tick({"ok": len(some)})
        team.wait_for_everyone()
        there, *_ = _there(storage)
    lacking = sum(text not in there for text in texts)
    if lacking:
        raise SurdError(
            f"{storage.root}: lacks {lacking:,} of {len(texts):,} texts; delete it, and make sure "
            "that all processes see the same folder"
        )
    names = list(dict.fromkeys(there[text][0] for text in texts))
    numbers = {name: number for number, name in enumerate(names)}
    places = {text: (numbers[there[text][0]], there[text][1]) for text in texts}
    return CachedTexts([load_file(storage.path(name)) for name in names], places)


def _there(storage: Storage) -> tuple[dict[str, tuple[str, int]], list[str], int]:
    """Text -> part and row, of whole parts; the damaged parts; the number of the next one."""
    found: dict[str, tuple[str, int]] = {}
    damaged = []
    free = 0
    for name in storage.names("."):
        if not name.startswith("part-"):
            continue
        free = int(Path(name).stem.removeprefix("part-")) + 1
        if is_whole(storage, name):
            with safe_open(storage.path(name), "pt") as file:
                texts = parse_json(file.metadata()["texts"])
            found |= {text: (name, row) for row, text in enumerate(texts)}
        else:
            damaged.append(name)
    return found, damaged, free


def _write(
    storage: Storage, name: str, pipeline: Any, texts: Sequence[str], at_once: AtOnce
) -> None:
    encoded = _encoded(pipeline, texts, at_once)
    tensors = {"states": encoded.states}
    if encoded.pooled is not None:
        tensors["pooled"] = encoded.pooled
    write_part(
        storage,
        name,
        tensors,
        lambda row: f"prompt {texts[row]!r:.60}",
        {"texts": json.dumps(list(texts))},
    )


def _encoded(pipeline: Any, texts: Sequence[str], at_once: AtOnce) -> Encoded:
    """Float32 on the CPU."""
    found = at_once.each(lambda some: encode(pipeline, some), texts, _too_long)
    states = torch.cat([one.states.float().cpu() for one in found])
    pooled = [one.pooled.float().cpu() for one in found if one.pooled is not None]
    return Encoded(states, torch.cat(pooled) if pooled else None)


def _too_long(text: str) -> str:
    return (
        f"not enough memory to encode even one prompt ({text!r:.40}); close other programs that "
        "use the GPU, or hide it (CUDA_VISIBLE_DEVICES=) to train on the CPU"
    )
