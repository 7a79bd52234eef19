"""Prompts beyond the text encoder's window are cut into pieces that it holds."""

from __future__ import annotations

from typing import Any

import pytest
from support_diffusion import MARKS, make_pipeline

from surd.adapter.encoding import windows_of

pytestmark = MARKS

LONG = ", ".join(f"tag number {n}" for n in range(60))


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return make_pipeline()


def fits(pipeline: Any, text: str) -> bool:
    tokenizer = pipeline.tokenizer
    return len(tokenizer(text, verbose=False).input_ids) <= tokenizer.model_max_length


@pytest.mark.parametrize("prompt", ["a cat", "", "a red dog on a lawn"])
def test_a_prompt_that_fits_is_one_window(pipeline: Any, prompt: str) -> None:
    assert windows_of(pipeline, prompt) == [prompt]


@pytest.mark.parametrize("end", ["red", "blue"])
def test_a_long_prompt_is_cut_between_its_tags(pipeline: Any, end: str) -> None:
    prompt = f"{LONG}, {end}"
    windows = windows_of(pipeline, prompt)
    assert len(windows) > 2 and ", ".join(windows) == prompt
    assert all(fits(pipeline, window) for window in windows)


def test_a_long_sentence_is_cut_between_its_words(pipeline: Any) -> None:
    sentence = " ".join(f"word{n}" for n in range(200))
    windows = windows_of(pipeline, sentence)
    assert len(windows) > 2 and " ".join(windows) == sentence


@pytest.mark.parametrize("text", ["\u5b57" * 300, "," * 300, "x" * 999])
def test_of_a_text_without_words_to_cut_between_nothing_is_lost(pipeline: Any, text: str) -> None:
    windows = windows_of(pipeline, text)
    assert "".join(windows) == text and len(windows) > 1
    assert all(fits(pipeline, window) for window in windows)
