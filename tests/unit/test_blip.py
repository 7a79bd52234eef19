"""Captions from an image context: those of transformers' own `generate`, and samples."""

from __future__ import annotations

import copy
from itertools import chain
from typing import Any

import pytest
import torch
from support_rounding import assert_only_rounded, rounding
from transformers import (
    BlipConfig,
    BlipForConditionalGeneration,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from surd.models import blip
from surd.models.blip.decoder import new_cache, next_logits
from surd.models.blip.encoder import image_states
from surd.models.blip.sampling import nucleus

pytestmark = pytest.mark.usefixtures("one_thread")
START, END, PADDING, VOCABULARY = 1, 2, 0, 97
IMAGES, WORDS = 6, 14


def random_model(seed: int, end_bias: float = 1.0) -> Any:
    """A small BLIP whose captions differ between images and end at different lengths."""
    size = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = BlipConfig(
        vision_config={**size, "image_size": 32, "patch_size": 8},
        text_config={
            **size,
            "encoder_hidden_size": 32,
            "vocab_size": VOCABULARY,
            "max_position_embeddings": 24,
            "bos_token_id": START,
            "sep_token_id": END,
            "eos_token_id": END,
            "pad_token_id": PADDING,
        },
        projection_dim=32,
    )
    model = BlipForConditionalGeneration(config).eval().requires_grad_(False)
    random = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        scales = name.lower().endswith(("norm.weight", "norm1.weight", "norm2.weight"))
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random) + scales)
    model.text_decoder.bert.embeddings.word_embeddings.weight.mul_(0.3)
    model.text_decoder.cls.predictions.decoder.bias[END] += end_bias
    return model


def random_pixels(seed: int, images: int = IMAGES) -> torch.Tensor:
    return 3 * torch.randn(images, 3, 32, 32, generator=torch.Generator().manual_seed(seed))


def generated(model: Any, pixels: torch.Tensor, **options: Any) -> list[list[int]]:
    ids = model.generate(pixels, do_sample=False, max_new_tokens=WORDS, **options)
    return [unpadded(row) for row in ids.tolist()]


def unpadded(row: list[int]) -> list[int]:
    """Without what follows the end token."""
    return row[: row.index(END) + 1] if END in row else row


def test_the_vision_tower_gives_the_models_own_states() -> None:
    model, pixels = random_model(0), random_pixels(0)
    theirs = model.vision_model(pixels).last_hidden_state
    exact = copy.deepcopy(model.vision_model).double()(pixels.double()).last_hidden_state
    assert theirs.std() > 0.1
    found = image_states(model.vision_model, pixels)
    assert_only_rounded(found, exact, rounding(theirs, exact))


def test_each_step_gives_the_models_own_logits() -> None:
    model, pixels = random_model(0), random_pixels(0)
    words = torch.randint(3, VOCABULARY, (IMAGES, 3, 7))
    words[..., 0] = START
    repeated = pixels.repeat_interleave(3, 0)
    shape = (IMAGES, 3, 7, VOCABULARY)
    theirs = model(repeated, words.flatten(0, 1)).logits.view(shape)
    twice = copy.deepcopy(model).double()
    exact = twice(repeated.double(), words.flatten(0, 1)).logits.view(shape)

    context = blip.encode(model, pixels)
    cache = new_cache(context, 3, 7)
    first = next_logits(model, context, cache, words[:, :1, 0])
    cache.follow(torch.zeros(IMAGES, 3, dtype=torch.int64))
    later = [next_logits(model, context, cache, words[..., i]) for i in range(1, 7)]
    ours = torch.stack([first.expand(-1, 3, -1), *later], dim=2)
    assert theirs.std() > 0.1
    assert_only_rounded(ours, exact, rounding(theirs, exact))


def test_a_context_holds_one_key_per_head_and_image_token() -> None:
    context = blip.encode(random_model(0), random_pixels(0))
    assert len(context) == IMAGES
    assert [tuple(keys.shape) for keys in context.keys] == 2 * [(IMAGES, 4, 17, 8)]
    assert [tuple(values.shape) for values in context.values] == 2 * [(IMAGES, 4, 17, 8)]


@pytest.mark.parametrize("beams", [1, 3, 5])
@pytest.mark.parametrize("seed", range(6))
def test_beam_search_writes_the_captions_of_generate(beams: int, seed: int) -> None:
    model, pixels = random_model(seed), random_pixels(seed)
    found = blip.beam_search(model, blip.encode(model, pixels), beams, WORDS)
    assert found.shape == (IMAGES, 1 + WORDS)
    assert [unpadded(row) for row in found.tolist()] == generated(model, pixels, num_beams=beams)


@pytest.mark.parametrize(
    "options",
    [
        {"early_stopping": True},
        {"length_penalty": 2.0},
        {"length_penalty": 0.0},
        {"length_penalty": -1.0},
        {"min_new_tokens": 6},
        {"min_new_tokens": WORDS},
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", range(4))
def test_options_mean_what_they_mean_in_generate(seed: int, options: dict[str, Any]) -> None:
    model, pixels = random_model(seed), random_pixels(seed)
    found = blip.beam_search(model, blip.encode(model, pixels), 3, WORDS, **options)
    expected = generated(model, pixels, num_beams=3, **options)
    assert [unpadded(row) for row in found.tolist()] == expected


def test_captions_of_a_batch_differ_and_end_at_different_lengths() -> None:
    """Else the tests above would show little."""
    lengths, captions = set(), set()
    for seed in range(6):
        model = random_model(seed)
        found = blip.beam_search(model, blip.encode(model, random_pixels(seed)), 3, WORDS)
        lengths |= {len(unpadded(row)) for row in found.tolist()}
        captions |= {tuple(row) for row in found.tolist()}
    assert len(lengths) >= 5
    assert len(captions) >= 20


@pytest.mark.parametrize("words", [1, 2])
def test_very_short_captions(words: int) -> None:
    model, pixels = random_model(1, end_bias=0.0), random_pixels(1)
    found = blip.beam_search(model, blip.encode(model, pixels), 3, words)
    expected = model.generate(pixels, do_sample=False, num_beams=3, max_new_tokens=words)
    assert found.tolist() == expected.tolist()


def test_padding_follows_the_end_token() -> None:
    model = random_model(0)
    found = blip.beam_search(model, blip.encode(model, random_pixels(0)), 3, WORDS)
    for row in found.tolist():
        assert set(row[len(unpadded(row)) :]) <= {PADDING}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_weights_of_half_precision_give_a_context_of_it(dtype: torch.dtype) -> None:
    model, pixels = random_model(0).to(dtype), random_pixels(0)
    context = blip.encode(model, pixels)
    assert {keys.dtype for keys in context.keys + context.values} == {dtype}
    assert blip.beam_search(model, context, 3, WORDS).shape == (IMAGES, 1 + WORDS)
    assert blip.nucleus_sample(model, context, 2, seeds=range(IMAGES)).shape == (IMAGES, 2, 21)


def test_autocast_computes_in_the_lower_precision() -> None:
    model, pixels = random_model(0), random_pixels(0)
    exact = blip.encode(model, pixels)
    with torch.autocast("cpu", torch.bfloat16):
        context = blip.encode(model, pixels)
        assert {keys.dtype for keys in context.keys + context.values} == {torch.bfloat16}
        found = blip.beam_search(model, context, 3, WORDS)
    assert found.shape == (IMAGES, 1 + WORDS)
    torch.testing.assert_close(context.keys[0].float(), exact.keys[0], atol=0.2, rtol=0.1)


def drawn(model: Any, pixels: torch.Tensor, samples: int, **options: Any) -> list[list[list[int]]]:
    context = blip.encode(model, pixels)
    found = blip.nucleus_sample(model, context, samples, max_new_tokens=WORDS, **options)
    assert found.shape == (len(pixels), samples, 1 + WORDS)
    return found.tolist()


def test_samples_do_not_depend_on_the_batch_its_order_or_their_number() -> None:
    model, pixels, seeds = random_model(0), random_pixels(0), [7, 0, 2**63 + 5, 3, 7, -1]
    together = drawn(model, pixels, 4, seeds=seeds)
    backwards = drawn(model, pixels.flip(0), 4, seeds=seeds[::-1])
    assert backwards[::-1] == together
    for i in range(IMAGES):
        alone = drawn(model, pixels[i : i + 1], 2, seeds=seeds[i : i + 1])
        assert alone[0] == together[i][:2]


def test_each_sample_and_each_seed_has_its_own_stream() -> None:
    model, pixels = random_model(0, end_bias=0.0), random_pixels(0, 1).repeat(3, 1, 1, 1)
    first, second, third = drawn(model, pixels, 4, seeds=[1, 2, 1], temperature=2.0)
    assert first == third
    assert len({tuple(row) for row in first + second}) == 8


def test_a_sampled_caption_is_padded_after_its_end() -> None:
    rows = list(chain(*drawn(random_model(0), random_pixels(0), 8, seeds=range(IMAGES))))
    assert {START} == {row[0] for row in rows}
    assert len({len(unpadded(row)) for row in rows}) >= 4
    for row in rows:
        assert set(row[len(unpadded(row)) :]) <= {PADDING}


def test_no_sample_ends_before_the_least_number_of_words() -> None:
    model, pixels = random_model(0, end_bias=4.0), random_pixels(0)
    rows = chain(*drawn(model, pixels, 4, seeds=range(IMAGES), min_new_tokens=5))
    assert min(len(unpadded(row)) for row in rows) >= 1 + 5


def test_with_no_room_for_chance_samples_are_the_greedy_caption() -> None:
    model, pixels = random_model(2), random_pixels(2)
    context = blip.encode(model, pixels)
    greedy = blip.greedy_search(model, context, WORDS).tolist()
    for options in ({"top_p": 1e-6}, {"temperature": 1e-4}, {"top_k": 1}):
        assert drawn(model, pixels, 2, seeds=range(IMAGES), **options) == [
            [row, row] for row in greedy
        ]


@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("top_k", [0, 1, 50, 1000])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_distribution_is_that_of_transformers(
    top_p: float, top_k: int, temperature: float
) -> None:
    logits = 2 * torch.randn(8, 300, generator=torch.Generator().manual_seed(0))
    warp = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_k:
        warp.append(TopKLogitsWarper(top_k))
    if top_p < 1:
        warp.append(TopPLogitsWarper(top_p))
    theirs = warp(torch.zeros(8, 1, dtype=torch.int64), logits).softmax(-1)
    kept, words = nucleus(logits / temperature, top_p, top_k)
    ours = torch.zeros_like(theirs).scatter(-1, words, kept / kept.sum(-1, keepdim=True))
    torch.testing.assert_close(ours, theirs)


def test_words_come_as_often_as_their_probabilities_say() -> None:
    model, pixels, samples = random_model(3), random_pixels(3, 1), 4000
    context = blip.encode(model, pixels)
    found = blip.nucleus_sample(model, context, samples, 0.8, seeds=[11], max_new_tokens=1)
    counts = found[0, :, 1].bincount(minlength=VOCABULARY)

    logits = model(pixels, torch.tensor([[START]])).logits[:, -1]
    probabilities = TopPLogitsWarper(0.8)(None, TopKLogitsWarper(50)(None, logits)).softmax(-1)[0]
    kept = probabilities > 0
    assert 5 < kept.sum() < VOCABULARY / 2
    assert counts[~kept].sum() == 0
    expected = samples * probabilities[kept]
    chi_square = ((counts[kept] - expected) ** 2 / expected).sum()
    degrees = int(kept.sum()) - 1
    assert chi_square < degrees + 5 * (2 * degrees) ** 0.5


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"seeds": [1]}, "1 seeds for 6 images"),
        ({"top_p": 0.0}, r"top_p: 0.0 is outside \(0, 1\]"),
        ({"top_p": 1.5}, r"top_p: 1.5 is outside \(0, 1\]"),
        ({"temperature": 0.0}, "temperature: 0.0 is not above 0"),
    ],
)
def test_wrong_arguments_are_named(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        drawn(random_model(0), random_pixels(0), 2, **{"seeds": range(IMAGES), **options})
