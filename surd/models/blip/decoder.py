"""One decoding step of BLIP's text decoder, for several captions of each image at once.

Notation for shapes: n images, b captions of an image that are being written (beams or samples),
t image tokens, h attention heads, d width of a head, s cache slots.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import functional


@dataclass(frozen=True)
class ImageContext:
    """What the decoder attends to in n images; the captions of an image share it."""

    keys: list[torch.Tensor]
    """Of the cross-attention of each layer: ``[n, h, t, d]``, of the dtype `encode` ran in."""
    values: list[torch.Tensor]
    """The same shape."""

    def __len__(self) -> int:
        return len(self.keys[0])

    @property
    def device(self) -> torch.device:
        """Where keys and values lie."""
        return self.keys[0].device

    def select(self, images: torch.Tensor) -> ImageContext:
        """A copy of those images: ``[m]`` int64."""
        return ImageContext([k[images] for k in self.keys], [v[images] for v in self.values])


@dataclass
class Cache:
    """Self-attention keys and values of the words so far, in memory that is allocated once.

    Every step fills one slot for each caption, beside those of the image's other captions. A
    caption's history is the slots it may see, so that reordering beams rewrites `visible` alone and
    never a key or a value.
    """

    keys: list[torch.Tensor]
    """Of each layer: ``[n, h, s, d]``."""
    values: list[torch.Tensor]
    visible: torch.Tensor
    """``[n, b, s]`` bool: the slots of each caption's own words."""
    used: int = 0
    """Slots filled so far, in all images."""
    position: int = 0
    """Of the next word in its caption."""

    def follow(self, parents: torch.Tensor) -> None:
        """Let each caption go on from another one of its image: ``[n, b]`` int64.

        The number of captions may change.
        """
        index = parents[..., None].expand(-1, -1, self.visible.shape[-1])
        self.visible = self.visible.gather(1, index)

    def select(self, images: torch.Tensor) -> Cache:
        """A copy of those images: ``[m]`` int64."""
        return Cache(
            [keys[images] for keys in self.keys],
            [values[images] for values in self.values],
            self.visible[images],
            self.used,
            self.position,
        )


def new_cache(context: ImageContext, captions: int, max_new_tokens: int) -> Cache:
    """Room for the start token, which an image's captions share, and for the words of each.

    The last word is not fed back and needs no slot.
    """
    slots = 1 + captions * max(max_new_tokens - 1, 0)
    like = context.keys[0]
    shape = (*like.shape[:2], slots, like.shape[-1])
    return Cache(
        [like.new_empty(shape) for _ in context.keys],
        [like.new_empty(shape) for _ in context.keys],
        torch.zeros(len(context), 1, slots, dtype=torch.bool, device=like.device),
    )


def next_logits(
    model: Any, context: ImageContext, cache: Cache, tokens: torch.Tensor
) -> torch.Tensor:
    """Feed the newest token of each caption; return the logits of the next one.

    Args:
        model: a `transformers.BlipForConditionalGeneration`.
        context: of the n images.
        cache: of the same images and of the same b captions of each; grows by these tokens.
        tokens: ``[n, b]`` int64.

    Returns:
        ``[n, b, vocabulary]`` float32.
    """
    decoder = model.text_decoder
    mask = _append_slots(cache, tokens.shape[1])
    states = _embed(decoder.bert.embeddings, tokens, cache.position)  # [n, b, h * d]
    for index, layer in enumerate(decoder.bert.encoder.layer):
        states = _attend_to_words(layer.attention, states, cache, index, mask)
        states = _attend_to_image(layer.crossattention, states, context, index)
        states = layer.output(layer.intermediate(states), states)
    cache.position += 1
    head = decoder.cls.predictions
    logits: torch.Tensor = head.decoder(head.transform(states))
    return logits.float()


def _append_slots(cache: Cache, captions: int) -> torch.Tensor | None:
    """Take a slot for each caption; return who sees what.

    ``[n, 1, b, used]`` bool, or None where everyone sees everything.
    """
    start, cache.used = cache.used, cache.used + captions
    cache.visible[:, :, start : cache.used] = torch.eye(
        captions, dtype=torch.bool, device=cache.visible.device
    )
    return None if captions == 1 else cache.visible[:, None, :, : cache.used]


def _embed(embeddings: Any, tokens: torch.Tensor, position: int) -> torch.Tensor:
    words = embeddings.word_embeddings(tokens)
    embedded: torch.Tensor = embeddings.LayerNorm(
        words + embeddings.position_embeddings.weight[position]
    )
    return embedded


def _attend_to_words(
    attention: Any, states: torch.Tensor, cache: Cache, index: int, mask: torch.Tensor | None
) -> torch.Tensor:
    own, heads = attention.self, attention.self.num_attention_heads
    new = slice(cache.used - states.shape[1], cache.used)
    keys, values = cache.keys[index], cache.values[index]
    keys[:, :, new] = split_heads(own.key(states), heads)
    values[:, :, new] = split_heads(own.value(states), heads)
    query = split_heads(own.query(states), heads)  # [n, h, b, d]
    mixed = functional.scaled_dot_product_attention(
        query, keys[:, :, : cache.used], values[:, :, : cache.used], attn_mask=mask
    )
    return _join_heads(attention, mixed, states)


def _attend_to_image(
    attention: Any, states: torch.Tensor, context: ImageContext, index: int
) -> torch.Tensor:
    """All captions of an image in one product, ``[n, h, b, d] x [n, h, d, t]``."""
    query = split_heads(attention.self.query(states), attention.self.num_attention_heads)
    mixed = functional.scaled_dot_product_attention(
        query, context.keys[index], context.values[index]
    )
    return _join_heads(attention, mixed, states)


def _join_heads(attention: Any, mixed: torch.Tensor, states: torch.Tensor) -> torch.Tensor:
    """From ``[n, h, b, d]`` through the output layer with its residual to ``[n, b, h * d]``."""
    joined: torch.Tensor = attention.output(mixed.transpose(1, 2).flatten(2), states)
    return joined


def split_heads(states: torch.Tensor, heads: int) -> torch.Tensor:
    """``[n, x, h * d]`` to ``[n, h, x, d]``, without a copy."""
    split: torch.Tensor = states.unflatten(-1, (heads, -1)).transpose(1, 2)
    return split


def still_worth(done: torch.Tensor) -> torch.Tensor | None:
    """The images to go on with, ``[m]`` int64, where leaving the others, ``[n]`` bool, pays.

    It does not while more than half are to stay, since their keys and values must be copied: then
    None. Waits for the device.
    """
    kept = (~done).nonzero()[:, 0]
    return kept if 2 * len(kept) <= len(done) else None


def text_tokens(model: Any) -> tuple[int, int, int]:
    """Ids of the start token, the end token and padding of BLIP's captions."""
    config = model.config.text_config
    return config.bos_token_id, config.sep_token_id, config.pad_token_id
