"""What BLIP's text decoder reads of an image, computed once.

Notation for shapes: n images, t image tokens, h attention heads, d width of a head.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.nn import functional

from surd.models.blip.decoder import ImageContext, split_heads


@torch.inference_mode()
def encode(model: Any, pixels: torch.Tensor) -> ImageContext:
    """The cross-attention keys and values of each decoder layer, for each image once.

    Args:
        model: a `transformers.BlipForConditionalGeneration`, not in training.
        pixels: ``[n, 3, height, width]`` as the model's processor gives them, of any dtype, on any
            device; they are moved to the model's.
    """
    weight = model.vision_model.embeddings.patch_embedding.weight
    states = image_states(model.vision_model, pixels.to(weight.device, weight.dtype))
    keys, values = [], []
    for layer in model.text_decoder.bert.encoder.layer:
        attention = layer.crossattention.self
        heads = attention.num_attention_heads
        # one block of memory for each head, because every decoding step reads it in that order
        keys.append(split_heads(attention.key(states), heads).contiguous())
        values.append(split_heads(attention.value(states), heads).contiguous())
    return ImageContext(keys, values)


def image_states(tower: Any, pixels: torch.Tensor) -> torch.Tensor:
    """The vision tower's last hidden states: ``[n, 3, height, width]`` to ``[n, t, h * d]``.

    As `tower` computes them itself, but with fused attention, which writes no ``[n, h, t, t]``
    scores to memory.
    """
    states: torch.Tensor = tower.embeddings(pixels)
    for layer in tower.encoder.layers:
        states = states + _self_attention(layer.self_attn, layer.layer_norm1(states))
        states = states + layer.mlp(layer.layer_norm2(states))
    normed: torch.Tensor = tower.post_layernorm(states)
    return normed


def _self_attention(attention: Any, states: torch.Tensor) -> torch.Tensor:
    heads = attention.num_heads
    query, key, value = (split_heads(part, heads) for part in attention.qkv(states).chunk(3, -1))
    mixed = functional.scaled_dot_product_attention(query, key, value)  # [n, h, t, d]
    projected: torch.Tensor = attention.projection(mixed.transpose(1, 2).flatten(2))
    return projected
