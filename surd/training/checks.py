"""What can be said against a training before anything is computed."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from surd.adapter.encoding import check_steps, text_width
from surd.errors import SurdError, need_extra
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.losses import TERMS, without_pictures


def reads_llm(params: TrainAdapterParams) -> bool:
    """Whether the network reads a language model's states."""
    return params.network == "reader" and params.llm_states != "none"


def unused(params: TrainAdapterParams) -> str | None:
    """Says which settings change nothing, since they are of what a reader reads."""
    keys = [key for key in ("llm_swap", "llm_dropout") if getattr(params, key)]
    if reads_llm(params) or not keys:
        return None
    why = "llm_states: none" if params.network == "reader" else f"network: {params.network}"
    told = " and ".join(keys) + (" changes" if len(keys) == 1 else " change")
    return f"train_adapter: with {why}, no language model is read, and {told} nothing"


def check_tools(params: TrainAdapterParams) -> None:
    """Raises SurdError where a tracker, a library or a precision is not to be had here."""
    need_extra("surd train-adapter", "train", "diffusers", "accelerate", "tensorboardX")
    tracker_of(params.report_to)
    if not any(getattr(params, f"{term}_weight") for term in TERMS):
        raise SurdError(
            "train_adapter: nothing to learn, since every loss has weight 0; set one of: "
            f"{', '.join(f'{term}_weight' for term in TERMS)}"
        )
    if params.early_stopping is not None and not without_pictures(params):
        raise SurdError(
            "train_adapter.early_stopping: the denoising loss alone has no validation loss; give "
            "another loss a weight, or leave it out"
        )
    if params.network == "reader" and params.attend == "batch":
        raise SurdError(
            "train_adapter.attend: batch is how the published network attends, and a reader does "
            "not; set it to tokens"
        )
    if params.network != "reader" and params.llm_states != "normal":
        raise SurdError(
            f"train_adapter.llm_states: {params.llm_states} is for network: reader; leave it out"
        )
    if reads_llm(params) and params.llm_swap and not params.complex_share:
        raise SurdError(
            "train_adapter.llm_swap: is of samples that get their complex prompt, and there are "
            "none; set a complex_share, or llm_swap to 0"
        )
    if params.network == "lora" and params.llm_weight:
        raise SurdError(
            "train_adapter.llm_weight: a LoRA has no features that could learn from a language "
            "model's vectors; set it to 0"
        )
    if params.llm_states == "shuffled" and params.batch_size < 2:
        raise SurdError(
            "train_adapter.llm_states: shuffled takes the states of another sample of the batch; "
            "set a batch_size of 2 or more"
        )
    if params.adam_8bit and find_spec("bitsandbytes") is None:
        raise SurdError(
            "train_adapter.adam_8bit: needs bitsandbytes, which is not installed; pip "
            "install bitsandbytes, or set it to false"
        )
    if params.precision == "fp16" and not torch.cuda.is_available():
        raise SurdError(
            "train_adapter.precision: fp16 needs a GPU, but this torch sees none; use auto or no"
        )


def tracker_of(report_to: str) -> str | None:
    """The name accelerate is told; None for no tracker. Raises SurdError."""
    from accelerate.tracking import get_available_trackers
    from accelerate.utils import LoggerType

    known = [str(name) for name in LoggerType.list()]
    if report_to == "none":
        return None
    if report_to not in known:
        raise SurdError(
            f"train_adapter.report_to: {report_to!r:.40} is not a tracker; trackers: "
            f"{', '.join(['none', *known])}"
        )
    there = {str(tracker.value) for tracker in get_available_trackers()}
    if report_to in there or (report_to == "all" and there):
        return report_to
    raise SurdError(
        f"train_adapter.report_to: {report_to} is not installed; pip install {report_to}, or use "
        "tensorboard or none"
    )


def check_fits(params: TrainAdapterParams, pipeline: Any) -> None:
    """Raises SurdError where the settings do not go with the sizes of the diffusion model."""
    width, factor = text_width(pipeline), pipeline.vae_scale_factor
    if width % params.heads and params.network != "lora":
        fitting = [n for n in range(1, 65) if width % n == 0]
        near = max((n for n in fitting if n < params.heads), default=1)
        raise SurdError(
            f"train_adapter.heads: {params.heads} does not divide {width}, the width of this "
            f"diffusion model's text embeddings; {near} does"
        )
    if params.validation_prompts:
        check_steps(pipeline, params.validation_steps)
    side = params.resolution
    if side is not None and side % factor:
        below = max(factor, side // factor * factor)
        raise SurdError(
            f"train_adapter.resolution: {side} is not divisible by {factor}, the factor of this "
            f"diffusion model's autoencoder; {below} is"
        )
