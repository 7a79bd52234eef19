"""More ways to say what a sample shows: all captions that CLIP finds as true as those it kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from surd.adapter.encoding import Encoded
from surd.errors import SurdError
from surd.store.aligned import read_aligned, side_by_side
from surd.store.workspace import Workspace

_COLUMNS = {
    "clip": ["simple_prompt", "cos_simple", "candidate_scores"],
    "captions": ["candidates"],
}
Sentences = dict[str, list[str]]
"""Id of a sample -> its captions."""


@dataclass(frozen=True)
class Spoken:
    """Captions of samples, and how they are encoded."""

    sentences: Sentences
    encode: Callable[[Sequence[str]], Encoded]


def caption_digests(location: str) -> list[str]:
    """Of all that `sentences_of` reads: equal where that is."""
    workspace = Workspace(location)
    infos = [workspace.part_info(name, p) for name in _COLUMNS for p in workspace.parts(name)]
    return [info.digest for info in infos if info is not None]


def sentences_of(location: str, ids: Sequence[str]) -> Sentences:
    """The captions of samples, the chosen one and the other candidates of ``surd caption``.

    A candidate stays where CLIP's cosine of picture and caption is not below the lowest of the
    chosen ones. Raises SurdError where a sample has none.
    """
    workspace = Workspace(location)
    scored: dict[str, tuple[str, list[tuple[str, float]]]] = {}
    wanted, lowest = set(ids), float("inf")
    for part in workspace.parts("clip"):
        for row in side_by_side(read_aligned(workspace, part, _COLUMNS)).to_pylist():
            if row["id"] in wanted and row["simple_prompt"]:
                lowest = min(lowest, row["cos_simple"])
                texts = [candidate["text"] for candidate in row["candidates"] or ()]
                pairs = list(zip(texts, row["candidate_scores"] or (), strict=False))
                scored[row["id"]] = (row["simple_prompt"], pairs)
    absent = len(wanted - scored.keys())
    if absent:
        raise SurdError(
            f"{location}: {absent:,} samples of the dataset have no captions here; publish it "
            "again, or set train_adapter.captions to best"
        )
    return {
        id_: list(dict.fromkeys([best, *(text for text, score in pairs if score >= lowest)]))
        for id_, (best, pairs) in scored.items()
    }
