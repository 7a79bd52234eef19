"""Prompts beyond the text encoder's window are encoded window by window."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from support_diffusion import MARKS, make_pipeline

from surd.adapter.encoding import encode, encode_long
from surd.text.windows import halved_to_fit, pieces_that_fit

pytestmark = MARKS

TAGS = [f"tag number {n}" for n in range(60)]
LONG = ", ".join(TAGS)


@pytest.fixture(scope="module")
def pipeline() -> Any:
    return make_pipeline()


def tokens(pipeline: Any, text: str) -> int:
    return len(pipeline.tokenizer(text, verbose=False).input_ids)


def test_prompts_that_fit_are_encoded_as_always(pipeline: Any) -> None:
    prompts = ["a cat", "", "a red dog on a lawn"]
    found = encode_long(pipeline, prompts)
    torch.testing.assert_close(found.states, encode(pipeline, prompts).states)
    assert found.mask.shape == found.states.shape[:2] and bool(found.mask.all())
    assert found.pooled is None


def test_a_long_prompt_goes_on_in_windows_of_its_own(pipeline: Any) -> None:
    window = pipeline.tokenizer.model_max_length
    found = encode_long(pipeline, ["a cat", LONG])
    count = found.states.shape[1] // window
    assert count > 2 and found.mask.sum(dim=1).tolist() == [window, count * window]
    pieces = pieces_that_fit(LONG, lambda text: tokens(pipeline, text) <= window)
    assert len(pieces) == count and ", ".join(pieces) == LONG
    assert all(tokens(pipeline, piece) <= window for piece in pieces)
    alone = encode(pipeline, pieces).states
    torch.testing.assert_close(found.states[1], alone.flatten(0, 1))
    torch.testing.assert_close(found.states[0, :window], encode(pipeline, "a cat").states[0])
    assert not found.states[0, window:].any()


def test_the_last_word_of_a_long_prompt_changes_what_is_encoded(pipeline: Any) -> None:
    ends = [f"{LONG}, {end}" for end in ("red", "blue")]
    assert torch.equal(*encode(pipeline, ends).states), "cut off"
    assert not torch.equal(*encode_long(pipeline, ends).states)


def test_sdxl_pools_the_first_window() -> None:
    pipeline = make_pipeline(xl=True)
    found = encode_long(pipeline, [LONG, "a cat"])
    window = pipeline.tokenizer.model_max_length
    first = pieces_that_fit(LONG, lambda text: tokens(pipeline, text) <= window)[0]
    torch.testing.assert_close(found.pooled, encode(pipeline, [first, "a cat"]).pooled)
    assert found.states.shape[-1] == 64


@pytest.mark.parametrize("text", ["字" * 300, "," * 300, "x" * 999])
def test_of_a_text_without_words_to_cut_between_nothing_is_lost(pipeline: Any, text: str) -> None:
    window = pipeline.tokenizer.model_max_length

    def fits(some: str) -> bool:
        return tokens(pipeline, some) <= window

    pieces = halved_to_fit(text, fits)
    assert "".join(pieces) == text and all(map(fits, pieces)) and len(pieces) > 1
    found = encode_long(pipeline, [text])
    assert found.states.shape[1] == len(pieces) * window


def test_cross_attention_with_the_mask_sees_no_padding(pipeline: Any) -> None:
    """What the mask is for: a short prompt beside a long one is read as it is alone."""
    attention = next(m for name, m in pipeline.unet.named_modules() if name.endswith("attn2"))
    queries = torch.randn(2, 4, attention.to_q.in_features, generator=torch.Generator())
    both = encode_long(pipeline, ["a cat", LONG])
    with torch.no_grad():
        seen = attention(queries, both.states, attention_mask=both.mask[:, None])
        alone = attention(queries[:1], encode(pipeline, "a cat").states)
    torch.testing.assert_close(seen[0], alone[0], atol=1e-5, rtol=1e-4)
