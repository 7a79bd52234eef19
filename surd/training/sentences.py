"""More ways to say what a sample shows: all captions that CLIP finds about as true as the best."""

from __future__ import annotations

from collections.abc import Sequence

from surd.errors import SurdError
from surd.store import edits
from surd.store.aligned import read_aligned, side_by_side
from surd.store.workspace import Workspace

_COLUMNS = {
    "clip": ["simple_prompt", "cos_simple", "candidate_scores"],
    "captions": ["candidates"],
}
_MARGIN = 0.02
"""Of cosines. CLIP's temperature is 100, so it prefers the best caption to one that is farther
below by more than e^2, 7 to 1. Of the demo's true captions, 98% are within."""
Sentences = dict[str, list[str]]
"""Id of a sample -> its captions."""


def caption_digests(location: str) -> list[str]:
    """Of all that `sentences_of` reads: equal where that is."""
    workspace = Workspace(location)
    look = workspace.part_infos(*_COLUMNS)
    infos = [look(name, part) for name in _COLUMNS for part in workspace.parts(name)]
    digests = [info.digest for info in infos if info is not None]
    written = edits.current(workspace)
    return digests + ([edits.digest(sorted(written.items()))] if written else [])


def sentences_of(location: str, ids: Sequence[str]) -> Sentences:
    """The captions of samples, the chosen one and the other candidates of ``surd caption``.

    A candidate stays where CLIP's cosine of picture and caption is at most 0.02 below that of the
    chosen one, and not below the lowest of all that were chosen. What was written by hand
    is the only one. Raises SurdError where a sample has none.
    """
    workspace = Workspace(location)
    written = edits.current(workspace)
    scored: dict[str, tuple[str, float, list[tuple[str, float]]]] = {}
    wanted, lowest = set(ids), float("inf")
    for part in workspace.parts("clip"):
        for row in side_by_side(read_aligned(workspace, part, _COLUMNS)).to_pylist():
            if row["id"] in wanted and row["simple_prompt"]:
                lowest = min(lowest, row["cos_simple"])
                others = () if row["id"] in written else row["candidates"] or ()
                texts = [candidate["text"] for candidate in others]
                pairs = list(zip(texts, row["candidate_scores"] or (), strict=False))
                scored[row["id"]] = (row["simple_prompt"], row["cos_simple"], pairs)
    absent = len(wanted - scored.keys())
    if absent:
        raise SurdError(
            f"{location}: {absent:,} samples of the dataset have no captions here; publish it "
            "again, or set train_adapter.captions to best"
        )
    return {
        id_: list(dict.fromkeys([best, *_at_least(max(top - _MARGIN, lowest), pairs)]))
        for id_, (best, top, pairs) in scored.items()
    }


def _at_least(lowest: float, pairs: Sequence[tuple[str, float]]) -> list[str]:
    return [text for text, score in pairs if score >= lowest]
