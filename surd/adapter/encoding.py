"""Text embeddings of a diffusers pipeline, with and without an adapter.

Every pipeline that takes ``prompt_embeds`` is served: text-to-image, image-to-image, inpainting,
ControlNet, of Stable Diffusion 1, 2 and XL.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from operator import index
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from surd.adapter.lora import AnyAdapter, Lora
from surd.adapter.module import Adapter, Base
from surd.errors import ModelError
from surd.models.hub import identity_of, is_same
from surd.models.memory import halving
from surd.models.names import public_name
from surd.models.pipeline_check import SUPPORTED
from surd.text.windows import halved_to_fit, pieces_that_fit

log = logging.getLogger("surd")


@dataclass(frozen=True)
class Encoded:
    """What a pipeline's text encoders say of prompts."""

    states: torch.Tensor
    """``[b, s, d]``; of SDXL both encoders' side by side."""
    pooled: torch.Tensor | None
    """``[b, p]`` of SDXL, which no adapter touches."""


@torch.no_grad()
def encode(pipeline: Any, prompts: str | Sequence[str]) -> Encoded:
    """Encode as the pipeline itself would; prompts beyond its window are cut. A string is one.

    Raises ModelError for a pipeline without a UNet, such as those of Stable Diffusion 3 and FLUX.
    """
    if getattr(pipeline, "unet", None) is None:
        raise ModelError(f"a {type(pipeline).__name__} has no UNet; {SUPPORTED}")
    several = [prompts] if isinstance(prompts, str) else list(prompts)
    return _encode(pipeline, several, pipeline.device)


def _encode(pipeline: Any, prompts: Sequence[str], device: torch.device) -> Encoded:
    found = pipeline.encode_prompt(
        prompt=list(prompts),
        device=device,
        num_images_per_prompt=1,
        do_classifier_free_guidance=False,
    )
    return Encoded(found[0], found[2] if len(found) == 4 else None)


def lora_states(lora: Lora, pipeline: Any, prompts: Sequence[str]) -> torch.Tensor:
    """``[b, s, d]``, of text encoders with the updates, which gradients reach; of the pipeline no
    other part is used. Raises ModelError where it has other text encoders."""
    device = next(lora.parameters()).device
    with lora.on(pipeline):
        return _encode(pipeline, prompts, device).states


def windows_of(pipeline: Any, prompt: str) -> list[str]:
    """The prompt in pieces of which each fits into the text encoder's window."""

    def fits(text: str) -> bool:
        return not cut_short(pipeline, [text])

    return [half for one in pieces_that_fit(prompt, fits) for half in halved_to_fit(one, fits)]


def cut_short(pipeline: Any, prompts: Sequence[str]) -> list[str]:
    """Those prompts that have more tokens than the text encoder reads."""
    tokenizer = pipeline.tokenizer
    return [one for one in prompts if len(tokenizer(one).input_ids) > tokenizer.model_max_length]


def encode_negative(pipeline: Any, prompts: Sequence[str]) -> Encoded:
    """Encode as the pipeline itself would encode negative prompts.

    An empty one is none, for which SDXL is mostly made to take zeros.
    """
    found = encode(pipeline, prompts)
    empty = [row for row, prompt in enumerate(prompts) if not prompt]
    if not pipeline.config.get("force_zeros_for_empty_prompt") or found.pooled is None:
        return found
    places = torch.tensor(empty, dtype=torch.long, device=found.states.device)
    return Encoded(*(some.index_fill(0, places, 0) for some in (found.states, found.pooled)))


def text_width(pipeline: Any) -> int:
    """d, read from the model."""
    return int(pipeline.unet.config.cross_attention_dim)


def side_px(pipeline: Any) -> int:
    """Of the square pictures the model was made for."""
    return int(pipeline.unet.config.sample_size * pipeline.vae_scale_factor)


def check_width(adapter: AnyAdapter, width: int) -> None:
    """Raises ModelError where the adapter is made for other text embeddings than `width` wide."""
    if adapter.config.width != width:
        raise ModelError(
            f"the adapter expects text embeddings of width {adapter.config.width}, but those "
            f"of this diffusion model have width {width}; use the model it was trained with"
        )


def check_made_for(adapter: AnyAdapter, pipeline: Any) -> None:
    """Raises ModelError where the adapter is made for other text encoders than the pipeline's."""
    check_width(adapter, text_width(pipeline))
    if isinstance(adapter, Lora):
        adapter.check(pipeline)


def prompt_inputs(
    pipeline: Any,
    adapter: AnyAdapter | None,
    prompts: str | Sequence[str],
    negative_prompts: str | Sequence[str] | None = None,
    *,
    adapt_negative: bool = False,
) -> dict[str, torch.Tensor]:
    """What to call the pipeline with in place of ``prompt`` and ``negative_prompt``.

    A string is one prompt; one negative prompt, empty by default, is that of all. It is left as it
    is; with `adapt_negative` it goes through the adapter together with its prompt, as in the
    published pipeline, and as programs do that load a LoRA. Warns once of an adapter that was
    trained for another model. Raises ModelError where the adapter is made for another width or
    other text encoders, for no prompts, and for another number of negative prompts.
    """
    prompts, negative = _paired(prompts, negative_prompts)
    if adapter is not None and adapter.base is not None:
        _tell_of_another_base(getattr(pipeline, "name_or_path", None), adapter.base)
    wanted, unwanted = encode(pipeline, prompts), encode_negative(pipeline, negative)
    pairs = torch.stack([unwanted.states, wanted.states], dim=1)  # [n, 2, s, d]
    first = 0 if adapt_negative else 1
    if isinstance(adapter, Lora):
        with adapter.on(pipeline):
            pairs[:, 1] = encode(pipeline, prompts).states
            if adapt_negative:
                pairs[:, 0] = encode_negative(pipeline, negative).states
        _check_adapted(wanted.states, pairs)
    else:
        texts = [pair[first:] for pair in zip(negative, prompts, strict=True)]
        pairs[:, first:] = adapt(adapter, pairs[:, first:], texts)
    unwanted_states, wanted_states = pairs.unbind(1)
    inputs = {"prompt_embeds": wanted_states, "negative_prompt_embeds": unwanted_states}
    if wanted.pooled is not None and unwanted.pooled is not None:
        inputs["pooled_prompt_embeds"] = wanted.pooled
        inputs["negative_pooled_prompt_embeds"] = unwanted.pooled
    return inputs


def _paired(
    prompts: str | Sequence[str], negative_prompts: str | Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """A negative prompt for each prompt. Raises ModelError."""
    several = [prompts] if isinstance(prompts, str) else list(prompts)
    given = "" if negative_prompts is None else negative_prompts
    negative = [given] if isinstance(given, str) else list(given)
    if not several:
        raise ModelError("no prompts; give at least one")
    for prompt in (*several, *negative):
        check_text(prompt)
    if len(negative) == 1:
        negative *= len(several)
    if len(negative) != len(several):
        raise ModelError(
            f"{len(negative)} negative prompts for {len(several)} prompts; give one for all, or "
            "one for each"
        )
    return several, negative


def check_text(prompt: str) -> None:
    """Raises ModelError for half characters, as bytes that are no UTF-8 become in a command."""
    try:
        prompt.encode()
    except UnicodeEncodeError as error:
        told = prompt.encode(errors="backslashreplace").decode()
        raise ModelError(f"prompt '{told:.60}': not valid Unicode; write it in UTF-8") from error


@cache
def _tell_of_another_base(name: str | None, base: Base) -> None:
    """Warn, once for each pair; of a pipeline that was made of parts nobody knows the name."""
    if name is None or is_same(identity_of(name), base.identity):
        return
    trained = base.identity if base.identity != base.name else identity_of(base.name)
    if not is_same(identity_of(name), trained):
        theirs, ours = public_name(base.name), public_name(name)
        log.warning(
            "the adapter was trained for %s; this is %s, another model or another version, with "
            "which it may do harm; train one for it with: surd train-adapter DIR",
            *(theirs, ours if ours != theirs else f"another {ours}"),
        )


@torch.no_grad()
def adapt(
    adapter: Adapter | None, states: torch.Tensor, texts: Sequence[Sequence[str]]
) -> torch.Tensor:
    """The states ``[n, g, s, d]`` through the adapter, in evaluation mode; as they are without one.

    `texts` are the n times g prompts, which an adapter with a language model reads too.

    The n rows are adapted each by itself; within one, an adapter with ``attend: batch`` lets the g
    texts look at each other, as the published code does. Raises ModelError where the adapter is
    made for another width, or gives what is not finite.
    """
    if adapter is None:
        return states
    check_width(adapter, states.shape[-1])
    parameter = next(adapter.parameters())
    moved = states.to(parameter.device, parameter.dtype)
    adapter.eval()
    if adapter.config.language_model is not None:
        if adapter.language is None:
            from surd.adapter.language import Language  # others do not need its libraries

            adapter.language = Language(adapter.config.language_model, device=parameter.device)
        llm, mask = adapter.language.states(list(chain(*texts)))
        given = (llm.to(parameter.device, parameter.dtype), mask.to(parameter.device))
        found = adapter(moved.flatten(0, 1), *given).embeddings
    else:
        rows = [moved.flatten(0, 1)] if adapter.config.attend == "tokens" else moved.unbind()
        found = torch.cat([adapter(row).embeddings for row in rows])
    embeddings: torch.Tensor = found.view_as(moved).to(states.device, states.dtype)
    _check_adapted(states, embeddings)
    return embeddings


def _check_adapted(before: torch.Tensor, after: torch.Tensor) -> None:
    """Raises ModelError where an adapter gives what is not finite."""
    if before.isfinite().all() and not after.isfinite().all():
        raise ModelError(
            "the adapter turns this prompt into NaN or infinity, so its training diverged; train "
            "again with a smaller learning rate"
        )


def generate(
    pipeline: Any,
    adapter: AnyAdapter | None,
    prompts: str | Sequence[str],
    seeds: Sequence[int],
    *,
    negative_prompts: str | Sequence[str] | None = None,
    **call: Any,
) -> list[Any]:
    """One picture for each prompt and its seed, as PIL images; `call` goes to the pipeline.

    Prompts are those of :func:`prompt_inputs`. A picture depends on its own prompt and seed, and
    not on those beside it: they are drawn together as far as the memory suffices. Raises ModelError
    where it does not for one, for another number of seeds or negative prompts, and for more steps
    than the model takes.
    """
    prompts, negative = _paired(prompts, negative_prompts)
    if len(seeds) != len(prompts):
        raise ModelError(f"{len(seeds)} seeds for {len(prompts)} prompts; give one for each")
    for seed in seeds:
        check_seed(seed)
    check_steps(pipeline, call.get("num_inference_steps"))

    def draw(rows: Sequence[int]) -> list[Any]:
        noise = [torch.Generator("cpu").manual_seed(index(seeds[row])) for row in rows]
        texts = ([some[row] for row in rows] for some in (prompts, negative))
        inputs = prompt_inputs(pipeline, adapter, *texts)
        pixels = pipeline(**inputs, generator=noise, **{**call, "output_type": "np"}).images
        _check_pixels(pipeline, pixels)
        as_they_are = call.get("output_type") == "np"
        return list(pixels if as_they_are else pipeline.image_processor.numpy_to_pil(pixels))

    return list(chain(*halving(draw, range(len(prompts)), _too_large)))


def _check_pixels(pipeline: Any, pixels: npt.NDArray[np.float32]) -> None:
    """Raises ModelError where they are no numbers, of which the pipeline would make black."""
    if not np.isfinite(pixels).all():
        precision = str(pipeline.unet.dtype).removeprefix("torch.")
        raise ModelError(
            f"the diffusion model drew NaN or infinity in {precision}; where a model overflows "
            "there, use a GPU that computes in bfloat16, or hide it (CUDA_VISIBLE_DEVICES=)"
        )


def check_steps(pipeline: Any, steps: int | None) -> None:
    """Raises ModelError for none, and for more than the model was taught levels of noise."""
    most = pipeline.scheduler.config.get("num_train_timesteps")
    if steps is not None and most is not None and not 1 <= steps <= most:
        raise ModelError(f"{steps:,} steps: this diffusion model takes 1 to {most:,}")


def check_seed(seed: int) -> None:
    """Raises ModelError for a seed that torch does not take."""
    if not -(2**63) <= seed < 2**64:
        raise ModelError(f"seed {seed}: must be from -2^63 to 2^64 - 1; choose a smaller one")


def _too_large(row: int) -> str:
    return (
        "not enough memory to draw even one picture; close other programs that use the GPU, "
        "or hide it (CUDA_VISIBLE_DEVICES=) to draw on the CPU"
    )
