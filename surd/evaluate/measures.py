"""What pictures are measured by, without and with an adapter."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from surd.errors import SurdError
from surd.evaluate.answers import is_right
from surd.evaluate.judges import Judge
from surd.evaluate.pictures import Pictures
from surd.evaluate.prompt import Prompt, ask, scenes_of, texts_of
from surd.evaluate.quality import Quality
from surd.evaluate.results import Baseline, Row
from surd.evaluate.significance import difference, mean_of, sign_flip

if TYPE_CHECKING:
    from surd.models.clip import Clip

log = logging.getLogger("surd")

SIDES = ("base", "adapter")
_AT_ONCE = 64


@dataclass
class Outcomes:
    """What was found, picture by picture: columns of a table."""

    columns: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, **values: Any) -> None:
        """One row."""
        for name, value in values.items():
            self.columns.setdefault(name, []).append(value)


@dataclass(frozen=True)
class Measured:
    """One measure of every picture."""

    prompts: str
    """The set."""
    measure: str
    values: Mapping[str, npt.NDArray[Any]]
    """Side -> ``[prompts, seeds]``, bool of shares, else float. Sides beyond the two of SIDES are
    baselines."""
    scenes: Sequence[str]
    """What each prompt shows."""
    lower_is_better: bool = False


def by_kind(
    name: str,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    drawings: Mapping[str, Pictures],
    judge: Judge,
    outcomes: Outcomes,
) -> Iterator[Measured]:
    """How many pictures show what they should, for each kind of prompt."""
    right = {
        side: _right(prompts, seeds, drawing, judge, outcomes, {"prompts": name, "side": side})
        for side, drawing in drawings.items()
    }
    for kind in dict.fromkeys(prompt.kind for prompt in prompts):
        chosen = np.array([prompt.kind == kind for prompt in prompts])
        scenes = [prompt.scene for prompt in prompts if prompt.kind == kind]
        yield Measured(name, kind, {side: some[chosen] for side, some in right.items()}, scenes)


def _right(
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    drawing: Pictures,
    judge: Judge,
    outcomes: Outcomes,
    about: Mapping[str, str],
) -> npt.NDArray[np.bool_]:
    """Whether all of a prompt's questions were answered as they should be, ``[prompts, seeds]``."""
    right = np.zeros((len(prompts), len(seeds)), bool)
    for row, column, prompt, said in _answers(prompts, seeds, drawing, judge):
        right[row, column] = _all_right(prompt, said)
        outcomes.add(
            **about,
            kind=prompt.kind,
            prompt=prompt.text,
            seed=seeds[column],
            right=bool(right[row, column]),
            questions=[question.question for question in ask(prompt)],
            wanted=[question.answer for question in ask(prompt)],
            said=said,
            picture=drawing.name(prompt.text, seeds[column]),
        )
    return right


def shares_right(
    prompts: Sequence[Prompt], seeds: Sequence[int], pictures: Pictures, judge: Judge
) -> dict[str, float]:
    """For each kind of prompt the share of pictures that show what they should."""
    found: dict[str, list[bool]] = {}
    for _, _, prompt, said in _answers(prompts, seeds, pictures, judge):
        found.setdefault(prompt.kind, []).append(_all_right(prompt, said))
    return {kind: sum(right) / len(right) for kind, right in found.items()}


def _all_right(prompt: Prompt, said: Sequence[str]) -> bool:
    return all(map(is_right, said, [question.answer for question in ask(prompt)]))


def _answers(
    prompts: Sequence[Prompt], seeds: Sequence[int], drawing: Pictures, judge: Judge
) -> Iterator[tuple[int, int, Prompt, list[str]]]:
    for first in range(0, len(prompts), _AT_ONCE):
        some = prompts[first : first + _AT_ONCE]
        for column, seed in enumerate(seeds):
            images = {text: drawing.open(text, seed) for text in {prompt.text for prompt in some}}
            said = judge([images[prompt.text] for prompt in some], [ask(prompt) for prompt in some])
            for row, (prompt, answers) in enumerate(zip(some, said, strict=True), start=first):
                yield row, column, prompt, answers


def clip_score(
    name: str,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    drawings: Mapping[str, Pictures],
    clip: Clip,
) -> Measured:
    """Mean cosine of picture and prompt (Hessel et al. 2021, arXiv:2104.08718, not rescaled)."""
    texts = texts_of(prompts)
    values = {side: cosines(texts, seeds, drawing, clip) for side, drawing in drawings.items()}
    return Measured(name, "clip score", values, scenes_of(prompts))


def cosines(
    texts: Sequence[str], seeds: Sequence[int], pictures: Pictures, clip: Clip
) -> npt.NDArray[np.float32]:
    """How near each picture is to its prompt, ``[prompts, seeds]``."""
    aims = clip.embed_texts(texts)  # [prompts, d]

    def scores(seed: int) -> npt.NDArray[np.float32]:
        found = [
            clip.embed_images([pictures.open(text, seed) for text in texts[i : i + _AT_ONCE]])
            for i in range(0, len(texts), _AT_ONCE)
        ]
        near: npt.NDArray[np.float32] = (torch.cat(found) * aims).sum(dim=1).cpu().numpy()
        return near

    return np.stack([scores(seed) for seed in seeds], axis=1)


def quality_of(
    name: str,
    metric: str,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    drawings: Mapping[str, Pictures],
    quality: Quality,
) -> Measured:
    """The mean of a metric that looks at pictures alone."""
    texts = texts_of(prompts)
    values = {
        side: np.array(
            [[quality.measure(drawing.open(text, seed)) for seed in seeds] for text in texts]
        )
        for side, drawing in drawings.items()
    }
    return Measured(name, metric, values, scenes_of(prompts), quality.lower_is_better)


def row_of(measured: Measured, *, quiet: bool = False) -> Row:
    """The means of each side, and how they differ.

    Prompts with a value that is no number, as metrics give of flat pictures, are left out, which is
    told unless `quiet`. Raises SurdError where that is all.
    """
    name, measure, values = measured.prompts, measured.measure, measured.values
    scenes = measured.scenes
    whole = np.all([np.isfinite(some).all(axis=1) for some in values.values()], axis=0)
    if not whole.any():
        raise SurdError(f"{name}: {measure} gives no number for any of the prompts; leave it out")
    if not whole.all():
        if not quiet:
            log.warning(
                "%s: %s gives no number for %d of %d prompts; left out",
                *(name, measure, len(whole) - whole.sum(), len(whole)),
            )
        values = {side: some[whole] for side, some in values.items()}
        scenes = [scene for scene, kept in zip(scenes, whole, strict=True) if kept]
    base, new = (values[side] for side in SIDES)
    return Row(
        name,
        measure,
        base.size,
        mean_of(base, scenes),
        mean_of(new, scenes),
        difference(new, base, scenes),
        sign_flip(new, base, scenes),
        measured.lower_is_better,
        base.dtype == bool,
        tuple(
            Baseline(
                side,
                mean_of(other, scenes),
                difference(other, base, scenes),
                sign_flip(other, base, scenes),
                difference(new, other, scenes),
                sign_flip(new, other, scenes),
            )
            for side, other in values.items()
            if side not in SIDES
        ),
    )
