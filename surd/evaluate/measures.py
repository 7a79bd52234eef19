"""What pictures are measured by, without and with an adapter."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from surd.errors import SurdError
from surd.evaluate.answers import is_of_kind, is_right
from surd.evaluate.judges import Judge, VqaJudge
from surd.evaluate.outcomes import Outcomes
from surd.evaluate.pictures import Pictures
from surd.evaluate.prompt import Prompt, Question, ask, scenes_of, texts_of
from surd.evaluate.quality import Quality
from surd.evaluate.question_rows import honoured
from surd.evaluate.results import Baseline, Row
from surd.evaluate.significance import difference, mean_of, sign_flip
from surd.evaluate.soft import COLUMNS, MEASURES, VQA_SCORE, questions_of, scores
from surd.models.answers import NoProbabilitiesError

if TYPE_CHECKING:
    from surd.models.clip import Clip
    from surd.models.pickscore import PickScore

log = logging.getLogger("surd")

Answer = TypeVar("Answer")

SIDES = ("base", "adapter")
QUESTIONS = "questions right"
_AT_ONCE = 64


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
    is_share: bool | None = None
    """Yes and no are a share; else what this says."""
    is_yes_no: bool = False
    """Whether the values are yes and no; then they are 1, 0 and NaN where some are missing."""

    @property
    def whole(self) -> npt.NDArray[np.bool_]:
        """Which prompts have a number in every value, ``[prompts]``."""
        found: npt.NDArray[np.bool_] = np.all(
            [np.isfinite(some).all(axis=1) for some in self.values.values()], axis=0
        )
        return found


@dataclass(frozen=True)
class _Judged:
    """What a judge found of one side's pictures."""

    right: npt.NDArray[np.float64]
    """Whether all of a prompt's questions were answered as they should be, ``[prompts, seeds]``: 1,
    0, or NaN where one was not answered at all."""
    shares: npt.NDArray[np.float64]
    """The share of questions whose answers count, the same shape; NaN as well."""
    likely: Mapping[str, npt.NDArray[np.float64]]
    """VQAScore and Soft-TIFA, where the judge says how sure it is: the same shape, NaN of prompts
    that have no questions of their own."""
    answers: int
    """To all questions about all pictures."""
    nonsense: Sequence[tuple[str, str]]
    """Questions with answers that are not of the kind that was asked for."""


def by_kind(
    name: str,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    drawings: Mapping[str, Pictures],
    judge: Judge,
    outcomes: Outcomes,
) -> Iterator[Measured]:
    """How many pictures show what they should, for each kind of prompt; then what else the judge
    says of all of them. A measure that has no number for any prompt is left out, which is told.

    - *questions right*: the share of a picture's questions that are answered right, as TIFA
      (https://arxiv.org/abs/2303.11897) has it; one whose needed ones are not right does not count,
      as in DSG (https://arxiv.org/abs/2310.18235). Of prompts with several questions.
    - *VQAScore* and *Soft-TIFA*: see :mod:`surd.evaluate.soft`. Of judges with probabilities.
    """
    judged: dict[str, _Judged] = {}
    soft = isinstance(judge, VqaJudge)
    for side, drawing in drawings.items():
        about = {"prompts": name, "side": side}
        judged[side] = _judged(prompts, seeds, drawing, judge, outcomes, about, soft=soft)
        soft = soft and bool(judged[side].likely)
    found = [*_kind_rows(name, prompts, judged)]
    if isinstance(judge, VqaJudge):
        _tell_nonsense(name, list(judged.values()))
        found += _share_rows(name, prompts, judged)
    if soft:
        found += _soft_rows(name, prompts, judged)
    for measured in found:
        if measured.whole.any():
            yield measured
        else:
            log.warning("%s: %s: the judge gave no answers; left out", name, measured.measure)


def _tell_nonsense(name: str, judged: Sequence[_Judged]) -> None:
    nonsense = [pair for some in judged for pair in some.nonsense]
    if nonsense:
        question, answer = nonsense[0]
        log.warning(
            "%s: %d of the judge's %d answers are no yes or no, or no number, where that was asked "
            "for, such as %.60r to %.100r; counted as wrong",
            *(name, len(nonsense), sum(some.answers for some in judged), answer, question),
        )


def _kind_rows(
    name: str, prompts: Sequence[Prompt], judged: Mapping[str, _Judged]
) -> Iterator[Measured]:
    for kind in dict.fromkeys(prompt.kind for prompt in prompts):
        chosen = [prompt.kind == kind for prompt in prompts]
        right = {side: found.right[chosen] for side, found in judged.items()}
        if all(np.isfinite(some).all() for some in right.values()):
            right = {side: some.astype(bool) for side, some in right.items()}
        yield Measured(name, kind, right, _scenes(prompts, chosen), is_yes_no=True)


def _share_rows(
    name: str, prompts: Sequence[Prompt], judged: Mapping[str, _Judged]
) -> Iterator[Measured]:
    several = [len(prompt.questions) > 1 for prompt in prompts]
    if any(several):
        shares = {side: found.shares[several] for side, found in judged.items()}
        yield Measured(name, QUESTIONS, shares, _scenes(prompts, several), is_share=True)


def _soft_rows(
    name: str, prompts: Sequence[Prompt], judged: Mapping[str, _Judged]
) -> Iterator[Measured]:
    for measure in MEASURES:
        chosen = [measure == VQA_SCORE or bool(prompt.questions) for prompt in prompts]
        if any(chosen):
            values = {side: found.likely[measure][chosen] for side, found in judged.items()}
            yield Measured(name, measure, values, _scenes(prompts, chosen))


def _scenes(prompts: Sequence[Prompt], chosen: Sequence[bool]) -> list[str]:
    return [prompt.scene for prompt, is_chosen in zip(prompts, chosen, strict=True) if is_chosen]


def _judged(
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    drawing: Pictures,
    judge: Judge,
    outcomes: Outcomes,
    about: Mapping[str, str],
    *,
    soft: bool,
) -> _Judged:
    shape = (len(prompts), len(seeds))
    right, shares = np.full(shape, np.nan), np.full(shape, np.nan)
    likely = _likely(prompts, seeds, drawing, judge) if soft else {}
    answers, nonsense = 0, []
    for row, column, prompt, said in _answers(prompts, seeds, drawing, judge):
        asked = ask(prompt)
        given = [(one, text) for one, text in zip(asked, said, strict=True) if text is not None]
        answers += len(given)
        nonsense += [(q.question, text) for q, text in given if not is_of_kind(text, q.answer)]
        is_whole = None not in said
        answered = _rights(prompt, said)
        if is_whole:
            right[row, column] = all(answered)
            shares[row, column] = np.mean(honoured(answered, asked))
        outcomes.add(
            **about,
            kind=prompt.kind,
            prompt=prompt.text,
            seed=seeds[column],
            right=all(answered) if is_whole else None,
            questions_right=float(shares[row, column]) if is_whole else None,
            questions=[question.question for question in asked],
            wanted=[question.answer for question in asked],
            said=said,
            **{
                column_: float(likely[measure][row, column]) if likely else None
                for measure, column_ in COLUMNS.items()
            },
            picture=drawing.name(prompt.text, seeds[column]),
        )
    return _Judged(right, shares, likely, answers, nonsense)


def _likely(
    prompts: Sequence[Prompt], seeds: Sequence[int], drawing: Pictures, judge: Judge
) -> dict[str, npt.NDArray[np.float64]]:
    """Measure -> ``[prompts, seeds]``; nothing where the judge does not say how sure it is."""
    assert isinstance(judge, VqaJudge)
    found = {measure: np.zeros((len(prompts), len(seeds))) for measure in MEASURES}
    try:
        for row, column, likely in _asked(
            prompts, seeds, drawing, judge.probabilities, questions_of
        ):
            for measure, value in scores(likely).items():
                found[measure][row, column] = value
    except NoProbabilitiesError as error:
        log.warning("%s; so there are no VQAScore and no Soft-TIFA", error)
        return {}
    return found


def shares_right(
    prompts: Sequence[Prompt], seeds: Sequence[int], pictures: Pictures, judge: Judge
) -> dict[str, float]:
    """For each kind of prompt the share of pictures that show what they should."""
    found: dict[str, list[bool]] = {}
    for _, _, prompt, said in _answers(prompts, seeds, pictures, judge):
        found.setdefault(prompt.kind, []).append(_all_right(prompt, said))
    return {kind: sum(right) / len(right) for kind, right in found.items()}


def _all_right(prompt: Prompt, said: Sequence[str | None]) -> bool:
    return all(_rights(prompt, said))


def _rights(prompt: Prompt, said: Sequence[str | None]) -> list[bool]:
    return [
        text is not None and is_right(text, question.answer)
        for text, question in zip(said, ask(prompt), strict=True)
    ]


def _answers(
    prompts: Sequence[Prompt], seeds: Sequence[int], drawing: Pictures, judge: Judge
) -> Iterator[tuple[int, int, Prompt, list[str | None]]]:
    for row, column, said in _asked(prompts, seeds, drawing, judge, ask):
        yield row, column, prompts[row], said


def _asked(
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    drawing: Pictures,
    judge: Callable[[Sequence[Any], Sequence[Sequence[Question]]], list[list[Answer]]],
    questions: Callable[[Prompt], Sequence[Question]],
) -> Iterator[tuple[int, int, list[Answer]]]:
    """The number of prompt and seed, and what the judge says of that picture."""
    for first in range(0, len(prompts), _AT_ONCE):
        some = prompts[first : first + _AT_ONCE]
        for column, seed in enumerate(seeds):
            images = {text: drawing.open(text, seed) for text in {prompt.text for prompt in some}}
            asked = [questions(prompt) for prompt in some]
            said = judge([images[prompt.text] for prompt in some], asked)
            for row, answers in enumerate(said, start=first):
                yield row, column, answers


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


def pick_score(
    name: str,
    prompts: Sequence[Prompt],
    seeds: Sequence[int],
    drawings: Mapping[str, Pictures],
    score: PickScore,
) -> Measured:
    """How much people may like each picture for its prompt (https://arxiv.org/abs/2305.01569)."""
    texts = texts_of(prompts)

    def scores(pictures: Pictures, seed: int) -> list[float]:
        found: list[float] = []
        for first in range(0, len(texts), _AT_ONCE):
            some = texts[first : first + _AT_ONCE]
            found += score([pictures.open(text, seed) for text in some], some)
        return found

    values = {
        side: np.array([scores(drawing, seed) for seed in seeds]).T
        for side, drawing in drawings.items()
    }
    return Measured(name, "PickScore", values, scenes_of(prompts))


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
    whole = measured.whole
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
    if measured.is_yes_no:
        values = {side: some.astype(bool) for side, some in values.items()}
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
        base.dtype == bool if measured.is_share is None else measured.is_share,
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
        len(set(scenes)),
    )
