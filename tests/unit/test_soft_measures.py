"""VQAScore, Soft-TIFA and questions right, written out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest

from surd.evaluate.answers import is_of_kind
from surd.evaluate.judges import VqaJudge
from surd.evaluate.measures import by_kind, row_of
from surd.evaluate.outcomes import Outcomes
from surd.evaluate.prompt import Prompt, Question
from surd.evaluate.results import Row
from surd.evaluate.soft import ATOMS, PROMPTS, VQA_SCORE
from surd.models.answers import Answers, NoProbabilitiesError, Vqa

WHOLE = {"a": 'Does this figure show "a"? Please answer yes or no.'}
PROMPTS_ = [
    Prompt(
        "a", "x", (Question("cat?", "yes"), Question("grey?", "yes", (0,)), Question("2?", "2"))
    ),
    Prompt("b", "y"),
]
LIKELY = {
    "base": {WHOLE["a"]: 0.5, "cat?": 0.9, "grey?": 0.4, "2?": 0.1},
    "adapter": {WHOLE["a"]: 0.6, "cat?": 0.9, "grey?": 0.8, "2?": 0.2},
}
SAID = {"base": {"cat?": "no", "grey?": "yes", "2?": "two"}, "adapter": {"2?": "2"}}


class Drawn:
    """A picture is the name of its side."""

    def __init__(self, side: str) -> None:
        self.side = side

    def name(self, text: str, seed: int) -> str:
        return f"{self.side}/{text}-{seed}"

    def open(self, text: str, seed: int) -> Any:
        return self.side


def answers(sides: Sequence[Any], questions: Sequence[str]) -> list[str]:
    return [
        SAID[side].get(question, "yes") for side, question in zip(sides, questions, strict=True)
    ]


def likely(sides: Sequence[Any], questions: Sequence[str], wanted: Sequence[str]) -> list[float]:
    return [LIKELY[side].get(q, 0.25) for side, q in zip(sides, questions, strict=True)]


def rows_of(
    probabilities: Any, outcomes: Outcomes | None = None, says: Answers = answers
) -> dict[str, Row]:
    drawings: Any = {side: Drawn(side) for side in LIKELY}
    judge = VqaJudge(Vqa(says, probabilities))
    found = by_kind("mine", PROMPTS_, [3, 4], drawings, judge, outcomes or Outcomes())
    return {row.measure: row for row in map(row_of, found)}


def test_every_measure_is_its_formula() -> None:
    outcomes = Outcomes()
    rows = rows_of(likely, outcomes)
    assert list(rows) == ["x", "y", "questions right", VQA_SCORE, ATOMS, PROMPTS]
    assert (rows["x"].base.value, rows["x"].adapter.value) == (0, 1)
    share = rows["questions right"]  # without the cat, nothing is grey
    assert share.is_share and share.pictures == 2
    assert (share.base.value, share.adapter.value) == pytest.approx((1 / 3, 1))
    whole = rows[VQA_SCORE]
    assert whole.pictures == 4 and not whole.is_share
    assert (whole.base.value, whole.adapter.value) == pytest.approx(
        ((0.5 + 0.25) / 2, (0.6 + 0.25) / 2)
    )
    atoms, prompts = rows[ATOMS], rows[PROMPTS]
    assert atoms.pictures == prompts.pictures == 2
    assert atoms.base.value == pytest.approx((0.9 + 0.4 + 0.1) / 3, abs=1e-4)
    assert atoms.adapter.value == pytest.approx((0.9 + 0.8 + 0.2) / 3, abs=1e-4)
    assert prompts.base.value == pytest.approx((0.9 * 0.4 * 0.1) ** (1 / 3), abs=1e-4)
    assert prompts.adapter.value == pytest.approx((0.9 * 0.8 * 0.2) ** (1 / 3), abs=1e-4)
    assert len(outcomes.columns["vqa_score"]) == len(outcomes.columns["prompt"]) == 8
    assert outcomes.columns["vqa_score"][0] == 0.5
    assert math.isnan(outcomes.columns["soft_tifa_atoms"][1])


def test_an_atom_that_is_impossible_makes_the_prompt_impossible() -> None:
    rows = rows_of(lambda sides, questions, wanted: [float("2" not in q) for q in questions])
    assert (rows[ATOMS].base.value, rows[PROMPTS].base.value) == pytest.approx((2 / 3, 0))


def test_a_judge_that_gives_no_probabilities_judges_by_its_answers_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def none(*_: Any) -> list[float]:
        raise NoProbabilitiesError("it gives none")

    outcomes = Outcomes()
    assert list(rows_of(none, outcomes)) == ["x", "y", "questions right"]
    assert set(outcomes.columns["vqa_score"]) == {None}
    told = [record.getMessage() for record in caplog.records]
    assert told == ["it gives none; so there are no VQAScore and no Soft-TIFA"]


def test_a_picture_without_an_answer_is_left_out_of_its_measure() -> None:
    rows = rows_of(lambda sides, qs, wanted: [math.nan if '"a"' in q else 0.5 for q in qs])
    assert rows[VQA_SCORE].pictures == 2 and rows[VQA_SCORE].base.value == 0.5


def test_a_question_without_an_answer_is_neither_right_nor_wrong(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def silent(sides: Sequence[Any], questions: Sequence[str]) -> list[str | None]:
        pairs = zip(sides, questions, answers(sides, questions), strict=True)
        return [None if (side, q) == ("adapter", "2?") else said for side, q, said in pairs]

    outcomes = Outcomes()
    rows = rows_of(likely, outcomes, silent)
    assert list(rows) == ["y", VQA_SCORE, ATOMS, PROMPTS]
    assert rows["y"].is_share and rows["y"].base.value == 1
    assert "mine: x: the judge gave no answers; left out" in caplog.text
    right = dict(zip(outcomes.columns["picture"], outcomes.columns["right"], strict=True))
    assert (right["base/a-3"], right["adapter/a-3"], right["adapter/b-3"]) == (False, None, True)


def test_of_some_prompts_without_an_answer_the_others_are_a_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    some = [Prompt(text, "x", (Question(f"{text}?", "yes"),)) for text in "abc"]
    monkeypatch.setattr(f"{__name__}.PROMPTS_", some)
    silent = lambda sides, questions: [None if q == "b?" else "yes" for q in questions]  # noqa: E731
    row = rows_of(likely, says=silent)["x"]
    assert (row.pictures, row.base.value, row.is_share) == (4, 1, True)


def test_answers_that_are_not_of_the_kind_asked_for_are_counted_and_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def nonsense(sides: Sequence[Any], questions: Sequence[str]) -> list[str]:
        return ["banana" for _ in sides]

    rows_of(likely)
    assert "counted as wrong" not in caplog.text
    rows = rows_of(likely, says=nonsense)
    assert rows["x"].adapter.value == 0 and rows["x"].scenes == 1
    assert "answers are no yes or no, or no number" in caplog.text and "'banana' to" in caplog.text


@pytest.mark.parametrize(
    ("said", "wanted", "of_kind"),
    [
        *(("Yes, it is.", "no", True), ("banana", "yes", False), ("", "yes", False)),
        *(("there are two dogs", "3", True), ("many", "three", False), ("many", "few", True)),
    ],
)
def test_yes_no_and_numbers_are_kinds_of_answers(said: str, wanted: str, of_kind: bool) -> None:
    assert is_of_kind(said, wanted) == of_kind
