"""Beam search over BLIP's text decoder, with the results of transformers' ``generate``.

Notation for shapes: n images, b beams of each, at most w words in a caption,
v words in the vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from surd.models.blip.decoder import ImageContext, new_cache, next_logits, still_worth, text_tokens
from surd.models.blip.sampling import greedy_search


@torch.inference_mode()
def beam_search(
    model: Any,
    context: ImageContext,
    num_beams: int = 3,
    max_new_tokens: int = 20,
    *,
    min_new_tokens: int = 0,
    length_penalty: float = 1.0,
    early_stopping: bool = False,
) -> torch.Tensor:
    """The best caption of each image, as ``model.generate(do_sample=False, ...)`` gives it.

    The arguments mean what they mean there. Each image is searched by itself and left as soon as no
    caption that is still being written can become its best.

    Returns:
        ``[n, 1 + max_new_tokens]`` int64: the start token, the words, the end token, padding.
    """
    if num_beams == 1:
        return greedy_search(model, context, max_new_tokens, min_new_tokens=min_new_tokens)
    start, end, padding = text_tokens(model)
    found = torch.full((len(context), 1 + max_new_tokens), padding, device=context.device)
    found[:, 0] = start
    tokens = found[:, :1]
    cache = new_cache(context, num_beams, max_new_tokens)
    beams = _start_beams(found, num_beams)
    for length in range(1, max_new_tokens + 1):
        scores = next_logits(model, context, cache, tokens).log_softmax(-1)
        if length <= min_new_tokens:
            scores[..., end] = -torch.inf
        parents, tokens = beams.extend(scores, length, end, length_penalty)
        cache.follow(parents)
        beams.settle(length, length_penalty, early_stopping)
        found[beams.images] = beams.ended_words[:, 0]
        kept = still_worth(~beams.live)
        if kept is not None:
            if len(kept) == 0:
                break
            context, cache, tokens = context.select(kept), cache.select(kept), tokens[kept]
            beams = beams.select(kept)
    return found


@dataclass
class _Beams:
    """Of each image: the b best captions being written, and the b best that ended."""

    images: torch.Tensor
    """``[n]`` int64: which images of the whole batch these are."""
    words: torch.Tensor
    """``[n, b, 1 + w]`` int64, being written: the start token, the words, padding."""
    scores: torch.Tensor
    """``[n, b]`` float32: sums of log-probabilities, the best first."""
    ended_words: torch.Tensor
    """``[n, b, 1 + w]`` int64, ended, the best first."""
    ended_scores: torch.Tensor
    """``[n, b]`` float32: the sum by length to the power of the penalty; -inf: none ended yet."""
    live: torch.Tensor
    """``[n]`` bool: the image's search goes on."""

    def extend(
        self, scores: torch.Tensor, length: int, end: int, penalty: float
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Add the word number `length`, counted from 1.

        By the log-probabilities of each word, ``[n, b, v]``, but ``[n, 1, v]`` of the first.
        Returns the beam each new one goes on from, and its new word: ``[n, b]`` int64 both.
        """
        beams, vocabulary = self.words.shape[1], scores.shape[-1]
        totals = scores + self.scores[:, : scores.shape[1], None]
        # each beam has one way to end, so among twice as many there are enough that go on
        totals, flat = totals.flatten(1).topk(2 * beams)  # [n, 2b], the best first
        parents, tokens = flat // vocabulary, flat % vocabulary
        words = self.words.gather(1, parents[..., None].expand(-1, -1, self.words.shape[-1]))
        words[..., length] = tokens
        ends = (tokens == end) | (length + 1 == words.shape[-1])
        self._take_ended(words[:, :beams], totals[:, :beams] / length**penalty, ends[:, :beams])
        self.scores, goes_on = totals.masked_fill(ends, -torch.inf).topk(beams)
        self.words = words.gather(1, goes_on[..., None].expand(-1, -1, words.shape[-1]))
        return parents.gather(1, goes_on), tokens.gather(1, goes_on)

    def _take_ended(self, words: torch.Tensor, scores: torch.Tensor, ends: torch.Tensor) -> None:
        """Of those that ended before and those that end now, keep the best; ``[n, b]`` each."""
        scores = scores.masked_fill(~(ends & self.live[:, None]), -torch.inf)
        self.ended_scores, best = torch.cat([self.ended_scores, scores], 1).topk(ends.shape[1])
        both = torch.cat([self.ended_words, words], 1)
        self.ended_words = both.gather(1, best[..., None].expand(-1, -1, words.shape[-1]))

    def settle(self, length: int, penalty: float, early_stopping: bool) -> None:
        """End the search of each image in which nothing better is to be expected.

        As transformers sees it, that is when b captions ended and the best one being written would
        score, if it ended now, no better than the worst of them; with `early_stopping`, when b
        captions ended.
        """
        worst = self.ended_scores[:, -1]
        self.live &= self.scores[:, 0] / length**penalty > worst
        if early_stopping:
            self.live &= worst == -torch.inf

    def select(self, kept: torch.Tensor) -> _Beams:
        """Those images alone: ``[m]`` int64."""
        return _Beams(
            self.images[kept],
            self.words[kept],
            self.scores[kept],
            self.ended_words[kept],
            self.ended_scores[kept],
            self.live[kept],
        )


def _start_beams(found: torch.Tensor, beams: int) -> _Beams:
    """Before the first word, from ``[n, 1 + w]``: the start token and padding."""
    images = len(found)
    words = found[:, None].expand(-1, beams, -1)
    return _Beams(
        images=torch.arange(images, device=found.device),
        words=words,
        scores=torch.zeros(images, beams, device=found.device),
        ended_words=words,
        ended_scores=torch.full((images, beams), -torch.inf, device=found.device),
        live=torch.ones(images, dtype=torch.bool, device=found.device),
    )
