"""What the viewer holds of every sample in memory: some 30 bytes, to filter, sort and find by."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from surd.stages.filter.rules import MISSING, REASONS
from surd.store.aligned import parts_there, read_aligned
from surd.store.manual import REASON, Decisions
from surd.store.prefetch import READERS, at_once
from surd.store.workspace import Workspace

Bools = npt.NDArray[np.bool_]
Hands = npt.NDArray[np.int8]
"""``[n]``: 1 kept by hand, -1 dropped by hand, 0 left to the filters."""

SCORES = {
    "cos_simple": "simple prompt's cosine",
    "cos_complex": "complex prompt's cosine",
    "aesthetic": "aesthetic score",
}
"""What samples are sorted by, in words."""
GROUPS = ("samples", "images", "captions", "clip", "verdicts")
"""Where a change means that what is held is out of date."""
_HELD = {"samples": ("source",), "clip": ("status", *SCORES), "verdicts": ("reasons",)}

BITS = {name: np.uint32(1 << place) for place, name in enumerate(REASONS)}
"""Of each reason in ``Index.reasons``."""
_MISSING = np.bitwise_or.reduce([BITS[name] for name in MISSING])
_HAND = {"keep": 1, "drop": -1}


@dataclass(frozen=True)
class Index:
    """Small columns of all samples, in the order they were collected."""

    parts: list[int]
    starts: npt.NDArray[np.int64]
    """``[parts + 1]``: the position of each part's first row; at the end, of all rows."""
    keys: npt.NDArray[np.uint64]
    """``[n]``: the second half of each id."""
    source: npt.NDArray[np.uint16]
    """``[n]``: place in `sources`."""
    sources: list[str]
    scores: Mapping[str, npt.NDArray[np.float32]]
    """Name -> ``[n]``, NaN where unknown."""
    embedded: Bools
    """``[n]``: whose image CLIP has seen."""
    reasons: npt.NDArray[np.uint32]
    """``[n]``: a bit for each of REASONS, in their order."""
    judged: Bools
    applied: Hands
    """What the verdicts know of decisions by hand."""

    def __len__(self) -> int:
        return len(self.keys)

    def place(self, position: int) -> tuple[int, int]:
        """Part and row of a position."""
        at = int(np.searchsorted(self.starts, position, "right")) - 1
        return self.parts[at], position - int(self.starts[at])

    def positions(self, sample_id: str) -> list[int]:
        """Where the id may be: its key's positions, one as a rule."""
        return [int(i) for i in np.flatnonzero(self.keys == np.uint64(_key(sample_id)))]

    def positions_of(self, ids: Collection[str]) -> dict[str, int]:
        """Where samples are, by their keys; those that are not there are left out."""
        by_key = {_key(id_): id_ for id_ in ids}
        wanted = np.fromiter(by_key, np.uint64, len(by_key))
        found = np.flatnonzero(np.isin(self.keys, wanted))
        return {by_key[int(self.keys[position])]: int(position) for position in found}

    def hands(self, decisions: Decisions) -> Hands:
        """The decisions of today at their positions."""
        hands = np.zeros(len(self), np.int8)
        for id_, position in self.positions_of(decisions).items():
            hands[position] = _HAND[decisions[id_]]
        return hands

    def kept(self, hands: Hands) -> Bools:
        """Who is kept, by the verdicts' reasons and the decisions of today.

        The filter stage decides alike, but for caps, whose places it gives away anew.
        """
        others = self.reasons & ~BITS[REASON]
        whole = (self.reasons & _MISSING) == 0
        by_filters = others == 0
        kept: Bools = self.judged & np.where(hands == 0, by_filters, (hands > 0) & whole)
        return kept

    def has_reason(self, name: str) -> Bools:
        """Whose verdict gives that reason, kept by hand or not."""
        found: Bools = (self.reasons & BITS[name]) != 0
        return found

    def reasons_at(self, position: int) -> list[str]:
        """The reasons of the filters, without the decision by hand."""
        found = self.reasons[position]
        return [name for name, bit in BITS.items() if found & bit and name != REASON]


def load(workspace: Workspace) -> Index:
    """Read the small columns of every part. Raises WorkspaceError."""
    there = parts_there(workspace, GROUPS)
    parts = sorted(there["samples"])
    pieces: list[dict[str, Any]] = []
    names: dict[str, int] = {}
    read = partial(read_aligned, workspace, columns=_HELD, there=there)
    for tables in at_once(parts, read, READERS):
        samples = tables["samples"]
        piece = {"keys": _keys(samples["id"]), "source": _codes(samples["source"], names)}
        piece |= {name: _numbers(tables["clip"][name]) for name in SCORES}
        piece["embedded"] = pc.equal(tables["clip"]["status"], "ok").fill_null(False).to_numpy()
        pieces.append(piece | _verdicts(tables["verdicts"]["reasons"]))
    empty = {"keys": np.zeros(0, np.uint64), "source": np.zeros(0, np.uint16)}
    empty |= {name: np.zeros(0, np.float32) for name in SCORES}
    empty["embedded"] = np.zeros(0, np.bool_)
    pieces = pieces or [empty | _no_verdicts(0)]
    joined = {name: np.concatenate([piece[name] for piece in pieces]) for name in pieces[0]}
    sizes = [len(piece["keys"]) for piece in pieces]
    return Index(
        parts=parts,
        starts=np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        keys=joined["keys"],
        source=joined["source"],
        sources=list(names),
        scores={name: joined[name] for name in SCORES},
        embedded=joined["embedded"],
        reasons=joined["reasons"],
        judged=joined["judged"],
        applied=joined["applied"],
    )


def _key(sample_id: str) -> int:
    return int(sample_id[16:], 16)


def _keys(ids: pa.ChunkedArray) -> npt.NDArray[np.uint64]:
    digits = bytes.fromhex("".join(ids.to_pylist()))
    return np.frombuffer(digits, ">u8").reshape(-1, 2)[:, 1].astype(np.uint64)


def _codes(column: pa.ChunkedArray, names: dict[str, int]) -> npt.NDArray[np.uint16]:
    found = column.combine_chunks().dictionary_encode()
    codes = [names.setdefault(name, len(names)) for name in found.dictionary.to_pylist()]
    rows: npt.NDArray[np.uint16] = np.array(codes, np.uint16)[found.indices.to_numpy()]
    return rows


def _numbers(column: pa.ChunkedArray) -> npt.NDArray[np.float32]:
    numbers: npt.NDArray[np.float32] = column.cast(pa.float32()).to_numpy()
    return numbers


def _no_verdicts(rows: int) -> dict[str, Any]:
    return {
        "reasons": np.zeros(rows, np.uint32),
        "judged": np.zeros(rows, np.bool_),
        "applied": np.zeros(rows, np.int8),
    }


def _verdicts(column: pa.ChunkedArray) -> dict[str, Any]:
    """What the reasons of a part say; of rows without a list nothing is judged yet."""
    lists = column.combine_chunks()
    found = _no_verdicts(len(lists))
    found["judged"][:] = lists.is_valid().to_numpy(zero_copy_only=False)
    rows_of = pc.list_parent_indices(lists).to_numpy()
    entries = lists.flatten()
    names = pc.index_in(entries.field("reason"), pa.array(list(REASONS)))
    known = names.is_valid().to_numpy(zero_copy_only=False)
    bits = np.left_shift(np.uint32(1), names.fill_null(0).to_numpy().astype(np.uint32))
    np.bitwise_or.at(found["reasons"], rows_of[known], bits[known])
    by_hand = pc.equal(entries.field("reason"), REASON).to_numpy(zero_copy_only=False)
    details = entries.field("detail").filter(pa.array(by_hand)).to_pylist()
    found["applied"][rows_of[by_hand]] = [_HAND.get(detail, 0) for detail in details]
    return found
