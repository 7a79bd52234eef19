"""How sure a judge is that pictures show what they should: VQAScore and Soft-TIFA.

- VQAScore (Lin et al. 2024, https://arxiv.org/abs/2404.01291): the probability of "yes" to one
  question over the whole prompt.
- Soft-TIFA (Kamath et al. 2025, https://arxiv.org/abs/2512.16853): the probabilities of the right
  answers to a prompt's questions; their arithmetic mean tells of its atoms, their geometric mean of
  the prompt as a whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from surd.evaluate.prompt import Prompt, Question

VQA_SCORE = "VQAScore"
ATOMS = "Soft-TIFA (atoms)"
PROMPTS = "Soft-TIFA (prompts)"
MEASURES = (VQA_SCORE, ATOMS, PROMPTS)
COLUMNS = {
    VQA_SCORE: "vqa_score",
    ATOMS: "soft_tifa_atoms",
    PROMPTS: "soft_tifa_prompts",
}
"""What they are called in tables."""


def questions_of(prompt: Prompt) -> tuple[Question, ...]:
    """VQAScore's question, in the words of its paper, and the prompt's own."""
    whole = f'Does this figure show "{prompt.text}"? Please answer yes or no.'
    return (Question(whole, "yes"), *prompt.questions)


def scores(likely: Sequence[float]) -> Mapping[str, float]:
    """Of one picture, from the probabilities of what :func:`questions_of` asks.

    Soft-TIFA is NaN where the prompt has no questions of its own.
    """
    whole, own = likely[0], np.asarray(likely[1:])
    if not len(own):
        return {VQA_SCORE: whole, ATOMS: np.nan, PROMPTS: np.nan}
    return {VQA_SCORE: whole, ATOMS: float(own.mean()), PROMPTS: _geometric_mean(own)}


def _geometric_mean(values: npt.NDArray[np.float64]) -> float:
    with np.errstate(divide="ignore"):  # one atom that is impossible makes it 0
        return float(np.exp(np.log(values).mean()))
