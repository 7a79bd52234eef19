"""Text embeddings of a diffusers pipeline, with and without an adapter.

Every pipeline that takes ``prompt_embeds`` is served: text-to-image, image-to-image, inpainting,
ControlNet, of Stable Diffusion 1, 2 and XL.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch

from surd.adapter.module import Adapter
from surd.errors import ModelError
from surd.models.memory import halving


@dataclass(frozen=True)
class Encoded:
    """What a pipeline's text encoders say of prompts."""

    states: torch.Tensor
    """``[b, s, d]``; of SDXL both encoders' side by side."""
    pooled: torch.Tensor | None
    """``[b, p]`` of SDXL, which no adapter touches."""


@torch.no_grad()
def encode(pipeline: Any, prompts: Sequence[str]) -> Encoded:
    """Encode as the pipeline itself would; prompts beyond its window are cut."""
    found = pipeline.encode_prompt(
        prompt=list(prompts),
        device=pipeline.device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=False,
    )
    return Encoded(found[0], found[2] if len(found) == 4 else None)


def text_width(pipeline: Any) -> int:
    """d, read from the model."""
    return int(pipeline.unet.config.cross_attention_dim)


def side_px(pipeline: Any) -> int:
    """Of the square pictures the model was made for."""
    return int(pipeline.unet.config.sample_size * pipeline.vae_scale_factor)


def check_width(adapter: Adapter, width: int) -> None:
    """Raises ModelError where the adapter is made for other text embeddings than `width` wide."""
    if adapter.config.width != width:
        raise ModelError(
            f"the adapter expects text embeddings of width {adapter.config.width}, but those "
            f"of this diffusion model have width {width}; use the model it was trained with"
        )


def prompt_inputs(
    pipeline: Any,
    adapter: Adapter | None,
    prompts: Sequence[str],
    negative_prompts: Sequence[str] | None = None,
    *,
    adapt_negative: bool = False,
) -> dict[str, torch.Tensor]:
    """What to call the pipeline with in place of ``prompt`` and ``negative_prompt``.

    The negative prompt, empty by default, is left as it is; the published pipeline sends it
    through the adapter too, which `adapt_negative` does. Raises ModelError where the adapter is
    made for another width.
    """
    negative = list(negative_prompts) if negative_prompts is not None else [""] * len(prompts)
    wanted, unwanted = encode(pipeline, prompts), encode(pipeline, negative)
    inputs = {
        "prompt_embeds": adapt(adapter, wanted.states),
        "negative_prompt_embeds": adapt(adapter if adapt_negative else None, unwanted.states),
    }
    if wanted.pooled is not None and unwanted.pooled is not None:
        inputs["pooled_prompt_embeds"] = wanted.pooled
        inputs["negative_pooled_prompt_embeds"] = unwanted.pooled
    return inputs


@torch.no_grad()
def adapt(adapter: Adapter | None, states: torch.Tensor) -> torch.Tensor:
    """The states through the adapter, in evaluation mode; as they are without one."""
    if adapter is None:
        return states
    check_width(adapter, states.shape[-1])
    parameter = next(adapter.parameters())
    moved = states.to(parameter.device, parameter.dtype)
    embeddings: torch.Tensor = adapter.eval()(moved).embeddings
    return embeddings.to(states.device, states.dtype)


def generate(
    pipeline: Any,
    adapter: Adapter | None,
    prompts: Sequence[str],
    seeds: Sequence[int],
    *,
    negative_prompts: Sequence[str] | None = None,
    **call: Any,
) -> list[Any]:
    """One picture for each prompt and its seed, as PIL images; `call` goes to the pipeline.

    A picture depends on its own prompt and seed, and not on those beside it: they are drawn
    together as far as the memory suffices. Raises ModelError where it does not for one.
    """
    negative = negative_prompts or [""] * len(prompts)

    def draw(rows: Sequence[int]) -> list[Any]:
        noise = [torch.Generator("cpu").manual_seed(seeds[row]) for row in rows]
        texts = ([some[row] for row in rows] for some in (prompts, negative))
        inputs = prompt_inputs(pipeline, adapter, *texts)
        images: list[Any] = pipeline(**inputs, generator=noise, **call).images
        return images

    return list(chain(*halving(draw, range(len(prompts)), _too_large)))


def _too_large(row: int) -> str:
    return (
        "not enough memory to draw even one picture; close other programs that use the GPU, "
        "or hide it (CUDA_VISIBLE_DEVICES=) to draw on the CPU"
    )
