"""The workspace as the viewer sees it: index, decisions and models, brought up to date."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import Any

import numpy as np

from surd.dataset.simple_prompts import Written
from surd.errors import SurdError
from surd.store import edits, manual
from surd.store.aligned import read_row
from surd.store.manual import Decision, Decisions
from surd.store.workspace import Workspace
from surd.view import index as indexing
from surd.view import map as mapping
from surd.view.index import Bools, Hands, Index
from surd.view.map import Places
from surd.view.nearest import TextEncoder, encoder_of
from surd.view.pending import Applied, applied_edits, pending_edits
from surd.view.reading import RowReader
from surd.view.words import WordSearch


@dataclass(frozen=True)
class Snapshot:
    """What one answer is made from; later changes do not touch it."""

    index: Index
    decisions: Decisions
    hands: Hands
    kept: Bools
    written: Written
    unscored: int
    """Samples whose simple prompts were edited since they were scored."""

    @property
    def undecided(self) -> int:
        """Decisions that the verdicts do not know of yet, or not any more."""
        return int(np.count_nonzero(self.hands != self.index.applied))

    @property
    def pending(self) -> int:
        """What is to be applied."""
        return self.undecided + self.unscored


_SHOWN = ("dense", "tags")
"""Groups that the index does not need, and which change without any of those that it does."""


class View:
    """One workspace, looked at."""

    def __init__(self, workspace: Workspace) -> None:
        """Raises SurdError when there is no workspace."""
        self.workspace = workspace
        self.rows = RowReader(workspace)
        self.encoder: TextEncoder = encoder_of(workspace)
        self.stopping = threading.Event()
        self.words = WordSearch(workspace, self.go_on)
        self._lock = threading.Lock()
        self._stamp: Any = None
        self._others: Any = None
        self._index: Index | None = None
        self._applied: Applied = {}
        self._mapping = threading.Lock()
        self._map: tuple[Index, Places] | None = None

    def snapshot(self) -> Snapshot:
        """How things are now; also what other processes have done meanwhile."""
        with self._lock:
            storage = self.workspace.storage
            stamp = [storage.stamps(group) for group in indexing.GROUPS]
            others = [storage.stamps(group) for group in _SHOWN]
            if others != self._others:
                self.rows.forget()
                self._others = others
            if self._index is None or stamp != self._stamp:
                self.rows.forget()
                self._index, self._stamp = indexing.load(self.workspace), stamp
                self._applied = applied_edits(self.workspace)
                self.encoder = self._encoder()
            index, applied = self._index, self._applied
        decisions = manual.read(self.workspace)
        hands = index.hands(decisions)
        found = edits.read(self.workspace)
        unscored = pending_edits(self.workspace, index, applied, found)
        kept = index.kept(hands)
        return Snapshot(index, decisions, hands, kept, Written.of(found), unscored)

    def index(self) -> Index:
        """The index of the last page, for the pictures on it."""
        return self._index or self.snapshot().index

    def map(self, index: Index) -> Places:
        """Where each sample lies on the map. Raises SurdError."""
        with self._mapping:
            if self._map is None or self._map[0] is not index:
                places = mapping.load(self.workspace, index, before_part=self.go_on)
                self._map = index, places
            return self._map[1]

    def go_on(self) -> None:
        """Raise SurdError when the viewer is being stopped: nobody waits for an answer then."""
        if self.stopping.is_set():
            raise SurdError("surd view was stopped")

    def find(self, index: Index, sample_id: str) -> int | None:
        """The position of a sample; None when there is none of that id."""
        for position in index.positions(sample_id):
            row = read_row(self.rows, *index.place(position), {"samples": ()})["samples"]
            if row["id"] == sample_id:
                return position
        return None

    def decide(self, sample_id: str, decision: Decision | None) -> None:
        """Write a decision down; the verdicts follow with :meth:`apply`."""
        manual.decide(self.workspace, sample_id, decision)

    def apply(self) -> None:
        """Have edited prompts scored, and all samples judged anew. Raises SurdError."""
        from surd.build.by_hand import apply

        apply(self.workspace)

    def _encoder(self) -> TextEncoder:
        """The one there is, with its loaded model, unless the images have been scored anew."""
        now = encoder_of(self.workspace)
        return self.encoder if now.params == self.encoder.params else now
