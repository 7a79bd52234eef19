"""Captions written word by word with BLIP's text decoder: the likeliest words, or words by chance.

Notation for shapes: n images, b captions of each, v words of the vocabulary, k likeliest words.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from surd.models.blip.decoder import ImageContext, new_cache, next_logits, still_worth, text_tokens

Choose = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]
"""From logits ``[n, b, v]`` (or ``[n, 1, v]``, the same for all), the images ``[n]`` these are of
the whole batch, and the number of words before: the next words, ``[n, b]`` int64."""


@torch.inference_mode()
def greedy_search(
    model: Any, context: ImageContext, max_new_tokens: int = 20, *, min_new_tokens: int = 0
) -> torch.Tensor:
    """One caption of each image, always the likeliest word: `beam_search` with one beam.

    Returns:
        ``[n, 1 + max_new_tokens]`` int64: the start token, the words, the end token, padding.
    """

    def choose(logits: torch.Tensor, images: torch.Tensor, before: int) -> torch.Tensor:
        return logits.argmax(-1)

    return _write(model, context, 1, choose, max_new_tokens, min_new_tokens)[:, 0]


@torch.inference_mode()
def nucleus_sample(
    model: Any,
    context: ImageContext,
    samples_per_image: int = 4,
    top_p: float = 0.9,
    temperature: float = 1.0,
    *,
    seeds: Sequence[int],
    max_new_tokens: int = 20,
    min_new_tokens: int = 0,
    top_k: int = 50,
) -> torch.Tensor:
    """Captions of each image drawn by nucleus sampling (arXiv 1904.09751).

    Logits are divided by `temperature`, then cut to the `top_k` largest (0: not), then to the
    fewest whose probabilities sum to `top_p`: the meaning, the order and the default of 50 are
    those of transformers' ``generate(do_sample=True, top_p=...)``.

    Sample j of image i follows its own stream of random numbers, which `seeds[i]` and j determine.
    It does not depend on the other images of the batch, their order or the number of samples, but
    for the rounding of matrix products, whose order of summation depends on their size.

    Args:
        model: a `transformers.BlipForConditionalGeneration`, not in training.
        context: of n images, from `encode`.
        samples_per_image: how many captions to draw of each.
        top_p: in (0, 1].
        temperature: above 0.
        seeds: of each image; the lowest 64 bits count.
        max_new_tokens: words at most, the end token included.
        min_new_tokens: words at least.
        top_k: 0 or more.

    Returns:
        ``[n, samples_per_image, 1 + max_new_tokens]`` int64: the start token, the words, the end
        token, padding.
    """
    if len(seeds) != len(context):
        raise ValueError(f"{len(seeds)} seeds for {len(context)} images")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p: {top_p} is outside (0, 1]")
    if temperature <= 0:
        raise ValueError(f"temperature: {temperature} is not above 0")
    numbers = torch.from_numpy(uniforms(seeds, samples_per_image, max_new_tokens))
    numbers = numbers.to(context.device)

    def choose(logits: torch.Tensor, images: torch.Tensor, before: int) -> torch.Tensor:
        probabilities, words = nucleus(logits / temperature, top_p, top_k)
        return draw(probabilities, words, numbers[images, :, before])

    return _write(model, context, samples_per_image, choose, max_new_tokens, min_new_tokens)


def nucleus(
    logits: torch.Tensor, top_p: float, top_k: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    """The words to draw from: their probabilities, not normalised, and ids; the likeliest first.

    Of logits ``[..., v]``; gives ``[..., k]`` twice. A word is kept while those before it sum to
    less than `top_p`; what is not kept has probability 0.
    """
    if 0 < top_k < logits.shape[-1]:
        logits, words = logits.topk(top_k)
    else:
        logits, words = logits.sort(dim=-1, descending=True, stable=True)
    probabilities = logits.softmax(-1)
    if top_p < 1:
        before = probabilities.cumsum(-1) - probabilities
        before[..., 0] = 0
        probabilities = probabilities.masked_fill(before >= top_p, 0)
    return probabilities, words


def draw(probabilities: torch.Tensor, words: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """By inversion of the cumulative distribution: ``[n, b or 1, k]`` twice and ``[n, b]``."""
    cumulative = probabilities.cumsum(-1)
    aims = uniforms[..., None] * cumulative[..., -1:]  # [n, b, 1]
    last = (probabilities > 0).sum(-1, keepdim=True) - 1
    rank = torch.minimum((cumulative <= aims).sum(-1, keepdim=True), last)
    return words.expand(*uniforms.shape, -1).gather(-1, rank)[..., 0]


def uniforms(seeds: Sequence[int], samples: int, draws: int) -> np.ndarray:
    """``[n, samples, draws]`` float32 in [0, 1): Philox (numpy's) keyed by seed and sample."""
    drawn = np.empty((len(seeds), samples, draws), np.float32)
    for row, seed in enumerate(seeds):
        for sample in range(samples):
            key = np.array([seed & (2**64 - 1), sample], np.uint64)
            generator = np.random.Generator(np.random.Philox(key=key))
            drawn[row, sample] = generator.random(draws, np.float32)
    return drawn


def _write(
    model: Any,
    context: ImageContext,
    captions: int,
    choose: Choose,
    max_new_tokens: int,
    min_new_tokens: int,
) -> torch.Tensor:
    """`captions` of each image, each word as `choose` says: ``[n, captions, 1 + words]`` int64."""
    start, end, padding = text_tokens(model)
    images = torch.arange(len(context), device=context.device)
    written = images.new_full((len(images), captions, 1 + max_new_tokens), padding)
    written[..., 0] = start
    ended = torch.zeros(len(images), captions, dtype=torch.bool, device=images.device)
    cache = new_cache(context, captions, max_new_tokens)
    tokens = written[:, :1, 0]
    for before in range(max_new_tokens):
        logits = next_logits(model, context, cache, tokens)
        if before == 0:
            cache.follow(images.new_zeros(len(images), captions))
        if before < min_new_tokens:
            logits[..., end] = -torch.inf
        tokens = choose(logits, images, before).masked_fill(ended, padding)
        written[images, :, before + 1] = tokens
        ended |= tokens == end
        kept = still_worth(ended.all(1))
        if kept is not None:
            if len(kept) == 0:
                break
            context, cache = context.select(kept), cache.select(kept)
            images, ended, tokens = images[kept], ended[kept], tokens[kept]
    return written
