"""What has been collected in all, and what was passed over, from the footers of the parts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from surd.sources.record import Seen
from surd.stages.source_state import FOUND, GROUP, NOT_A_STATE, SourceState, last_states
from surd.stages.tally import Tally, from_json, tally
from surd.store import gone
from surd.store.prefetch import FOOTERS, ahead
from surd.store.workspace import Workspace

_READ = ["source_id", "path", "url", "prompt", "simple_prompt", "settings"]


@dataclass(frozen=True)
class Collected:
    """The samples of a workspace that are not gone, and what its sources had beside them."""

    tally: Tally = field(default_factory=Tally)
    seen: Seen = field(default_factory=Seen)
    gone: int = 0
    """The other samples, which their sources no longer have."""

    def as_json(self) -> dict[str, Any]:
        """For machines."""
        counted = self.tally
        return {
            "files_seen": self.seen.files,
            "images": counted.images,
            "with_prompt": counted.with_prompt,
            "with_simple_prompt": counted.with_caption,
            "gone": self.gone,
            "by_generator": dict(ranked(counted.generators)),
            "not_understood": _examples(counted.not_understood),
            "passed_over": _examples(self.seen.passed),
        }


def ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Names and their counts, the largest first."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _examples(counts: Mapping[str, tuple[int, str]]) -> dict[str, Any]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1][0], item[0]))
    return {name: {"count": count, "example": example} for name, (count, example) in ordered}


def collected(workspace: Workspace) -> Collected:
    """Count a workspace's samples, less those that are gone; reads footers, and the rows of parts
    of earlier versions or with samples that are gone."""
    absent, infos = gone.read(workspace), workspace.part_infos(GROUP)

    def look(part: int) -> tuple[Tally, tuple[int, int, SourceState] | None]:
        info = infos(GROUP, part)
        extra = info.extra if info is not None else {}
        ids = workspace.read(GROUP, part, ["id"])["id"].to_pylist() if absent else []
        counted = None
        if FOUND in extra and absent.isdisjoint(ids):
            with suppress(*NOT_A_STATE):  # then the rows know
                counted = from_json(extra[FOUND])
        if counted is None:
            rows = workspace.read(GROUP, part, ["id", *_READ]).to_pylist()
            counted = tally(row for row in rows if row["id"] not in absent)
        try:
            return counted, (part, info.rows if info else 0, SourceState.from_json(extra))
        except NOT_A_STATE:
            return counted, None

    total = Collected(gone=len(absent))
    states = []
    for counted, state in ahead(workspace.storage, workspace.parts(GROUP), look, FOOTERS):
        total.tally.add(counted)
        if state is not None:
            states.append(state)
    for last in last_states(workspace, states):
        total.seen.add(last.seen)
    return total
