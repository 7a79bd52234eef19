"""Before and after: the same prompt and noise without and with the adapter, side by side."""

from __future__ import annotations

import hashlib
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from PIL import Image

from surd.adapter.drawing import read_rgb
from surd.errors import SurdError, command
from surd.evaluate.answers import is_right
from surd.evaluate.outcomes import FILE, KEYS, read_outcomes
from surd.evaluate.pictures import find_picture
from surd.files.contact_sheet import contact_sheet
from surd.pages.text import visible
from surd.report.page import Section, body, thumbnail
from surd.report.runs.read import Run

OUTCOMES = {
    (False, True): "fixed by the adapter",
    (True, False): "broken by it",
    (True, True): "both right",
    (False, False): "both wrong",
}
"""Whether the judge finds the picture right without and with the adapter -> what that is."""

_SAMPLE, _MORE = 18, 6
"""Pairs drawn from all; and of each outcome, where the sample has fewer."""
_MOST, _MOST_CHARS = 48, 1_700_000
"""Pairs on the page, and characters of all their pictures."""
_SIDE_PX, _MAX_BYTES = 256, 10_000
_CELL_PX, _CHARS = 224, 56
"""On a sheet: a picture's side, and characters of a line of text above two pictures."""
_MARKS = {True: ("right", "#1f7a4d"), False: ("wrong", "#b3392f")}
_SILENT = ("", "None")
"""Answers of a judge who sees nothing of what it is asked for."""


@dataclass(frozen=True)
class Side:
    """A picture and what the judge said of it."""

    right: bool
    wrong: Sequence[str]
    """What is wrong in it, question by question."""
    picture: str
    """Below the folder of drawings."""


@dataclass(frozen=True)
class Pair:
    """A prompt's pictures from the same noise."""

    prompts: str
    """The set the prompt is of."""
    prompt: str
    seed: int
    base: Side
    adapter: Side

    @property
    def outcome(self) -> str:
        """One of OUTCOMES."""
        return OUTCOMES[self.base.right, self.adapter.right]


@dataclass(frozen=True)
class Shown:
    """A pair on the page."""

    pair: Pair
    sampled: bool
    """Whether it is of the random sample, and not there for its outcome alone."""
    base: str
    adapter: str
    """Data URIs."""


def compare_section(run: Run) -> Section | None:
    """None where nothing was judged. Raises SurdError for a broken file."""
    pairs = read_pairs(run.folder / FILE)
    if not pairs:
        return None
    sets = list(dict.fromkeys(pair.prompts for pair in pairs))
    counts = {name: Counter(p.outcome for p in pairs if p.prompts == name) for name in sets}
    found = [pick for name in sets for pick in picks(pairs, name, len(sets))]
    chosen = sorted(found, key=lambda pick: not pick[1])[:_MOST]
    shown = list(_shown(chosen, run.folder))
    text = body(
        "runs/compare.html.j2",
        id=run.id,
        outcomes=list(OUTCOMES.values()),
        counts=counts,
        total=sum(counts.values(), Counter()),
        shown=shown,
        sampled=sum(one.sampled for one in shown),
        visible=visible,
    )
    return Section(f"{run.id}-compare", "Before and after", text)


def read_pairs(path: Path) -> list[Pair]:
    """Every pair that was judged, in the order of its file; none where there is no file.

    A picture that was judged by several kinds of questions counts by the first of them. Raises
    SurdError.
    """
    if not path.is_file():
        return []
    texts = pa.list_(pa.string())
    answers = {"right": pa.bool_(), "questions": texts, "wanted": texts, "said": texts}
    keys = [name for name in KEYS if name != "kind"]
    sides: dict[tuple[str, str, int], dict[str, Side]] = {}
    for row in read_outcomes(path, keys, answers).to_pylist():
        if row["right"] is None:  # the judge did not answer
            continue
        if not _is_answered(row):
            raise SurdError(
                f"{path}: has not one answer for each question; run surd evaluate again"
            )
        found = sides.setdefault((row["prompts"], row["prompt"], row["seed"]), {})
        found.setdefault(row["side"], _side(row))
    return [
        Pair(*key, found["base"], found["adapter"])
        for key, found in sides.items()
        if {"base", "adapter"} <= found.keys()
    ]


def _is_answered(row: Mapping[str, Any]) -> bool:
    lists = [row[name] for name in ("questions", "wanted", "said")]
    if not all(isinstance(one, list) for one in lists) or len({*map(len, lists)}) > 1:
        return False
    return not any(one is None for one in (*row["questions"], *row["wanted"]))


def _side(row: Mapping[str, Any]) -> Side:
    said = [text or "" for text in row["said"]]
    answers = zip(row["questions"], row["wanted"], said, strict=True)
    wrong = [
        f"{question}: {'no answer' if said in _SILENT else said}, not {wanted}"
        for question, wanted, said in answers
        if not is_right(said, wanted)
    ]
    return Side(row["right"], wrong, row["picture"])


def picks(pairs: Sequence[Pair], name: str, sets: int) -> Iterator[tuple[Pair, bool]]:
    """Of a set of prompts a random sample, then more of the outcomes that are rare in it.

    The order is that of a hash of prompt and seed, so it is the same every time and knows nothing
    of what was drawn.
    """
    mixed = sorted((pair for pair in pairs if pair.prompts == name), key=_chance)
    sample = mixed[: -(-_SAMPLE // sets)]
    yield from ((pair, True) for pair in sample)
    more = -(-_MORE // sets)
    for outcome in OUTCOMES.values():
        there = sum(pair.outcome == outcome for pair in sample)
        rest = [pair for pair in mixed[len(sample) :] if pair.outcome == outcome]
        yield from ((pair, False) for pair in rest[: max(0, more - there)])


def _chance(pair: Pair) -> bytes:
    return hashlib.sha256(f"{pair.seed} {pair.prompt}".encode("utf-8", "replace")).digest()


def _shown(chosen: Iterable[tuple[Pair, bool]], run: Path) -> Iterator[Shown]:
    """Those whose pictures are both there, as many as fit."""
    room = _MOST_CHARS
    for pair, sampled in chosen:
        base, adapter = (
            thumbnail(opened(side.picture, run), _SIDE_PX, _MAX_BYTES)
            for side in (pair.base, pair.adapter)
        )
        if base and adapter:
            room -= len(base) + len(adapter)
            if room < 0:
                return
            yield Shown(pair, sampled, base, adapter)


def opened(name: str, run: Path) -> bytes | None:
    """A judged picture's file, of the run or, in an ablation, beside it; None where it is gone."""
    path = find_picture(name, run)
    return path.read_bytes() if path else None


def sheet(
    run: str | Path, *, prompts: str | None = None, pairs: int = 6, columns: int = 3
) -> Image.Image:
    """The first `pairs` of the random sample as one picture for a README, each without and with
    the adapter, RGB.

    `prompts` is the set they are of; the first that the run was evaluated with by default. Raises
    SurdError where the run was not evaluated, or its pictures are gone.
    """
    run = Path(run)
    judged = read_pairs(run / FILE)
    if not judged:
        raise SurdError(f"{run}: has no {FILE}; run: {command('evaluate', run)}")
    name = prompts or judged[0].prompts
    sample = [pair for pair, sampled in picks(judged, name, 1) if sampled][:pairs]
    if not sample:
        raise SurdError(f"{run}: was not evaluated on {name}")
    cells = [_cell(pair, run) for pair in sample]
    return contact_sheet([cells[i : i + columns] for i in range(0, len(cells), columns)])


def _cell(pair: Pair, run: Path) -> Image.Image:
    lines = textwrap.wrap(visible(pair.prompt), _CHARS, max_lines=2, placeholder=" …")
    sides = (("without", pair.base), ("with", pair.adapter))
    return contact_sheet(
        [[_picture(side, run) for _, side in sides]],
        [(f"{name}: {_MARKS[side.right][0]}", _MARKS[side.right][1]) for name, side in sides],
        heading=[*lines, "", ""][:2],
        margin_px=4,
    )


def _picture(side: Side, run: Path) -> Image.Image:
    data = opened(side.picture, run)
    if data is None:
        evaluate = command("evaluate", run)
        raise SurdError(f"{run}: {side.picture} no longer exists; run: {evaluate}")
    return read_rgb(data, side.picture).resize((_CELL_PX, _CELL_PX), Image.Resampling.LANCZOS)
