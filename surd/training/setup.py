"""What a training works with: processes, precision, optimizer, the frozen UNet, averages."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from torch import nn

from surd.adapter.lora import LoraConfig
from surd.adapter.module import AdapterConfig, LanguageModel
from surd.models.devices import device_named, dtype_of
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.checks import reads_llm, tracker_of

_WAIT = timedelta(hours=24)
"""How long processes wait for each other: one may encode or draw while the others are done."""


def config_of(
    params: TrainAdapterParams, width: int, llm: LanguageModel | None = None
) -> AdapterConfig | LoraConfig:
    """The network that the parameters ask for; `llm` is what a reader reads."""
    if params.network == "lora":
        return LoraConfig(width, params.lora_rank)
    reads = reads_llm(params)
    return AdapterConfig(
        width=width,
        network="encoder" if params.network == "reader" and not reads else params.network,
        heads=params.heads,
        feed_forward=params.feed_forward,
        weight=params.adapter_weight,
        blend=params.blend,
        attend=params.attend,
        dropout=params.dropout,
        gate=params.gate,
        language_model=llm if reads else None,
        llm_dropout=params.llm_dropout if reads else 0.0,
    )


def make_accelerator(params: TrainAdapterParams, folder: Path) -> Any:
    """The processes and devices this run was launched on. Raises SurdError."""
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState
    from accelerate.utils import GradientAccumulationPlugin, InitProcessGroupKwargs

    reset = getattr(AcceleratorState, "_reset_state", None)  # private, and there since 0.7
    if reset is not None:  # it keeps an earlier run's precision, and refuses another
        reset()
    return Accelerator(
        mixed_precision=precision_of(params),
        # a number of steps would give way to ACCELERATE_GRADIENT_ACCUMULATION_STEPS
        gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=params.accumulate),
        log_with=tracker_of(params.report_to),
        project_dir=folder,
        kwargs_handlers=[InitProcessGroupKwargs(timeout=_WAIT)],
    )


def precision_of(params: TrainAdapterParams) -> str:
    """What accelerate calls it."""
    if params.precision != "auto":
        return params.precision
    found = dtype_of("auto", device_named("auto"))
    return {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(found, "no")


def make_optimizer(learning: Sequence[nn.Parameter], params: TrainAdapterParams) -> Any:
    """AdamW, in 8 bits where that is asked for."""
    how: dict[str, Any] = {"lr": params.learning_rate, "weight_decay": params.weight_decay}
    if params.adam_8bit:
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(learning, **how)
    return torch.optim.AdamW(learning, **how)


def make_average(accelerator: Any, student: nn.Module, params: TrainAdapterParams) -> Any:
    """Averages of the weights, kept in checkpoints; None where they are not asked for."""
    if params.ema is None:
        return None
    from diffusers.training_utils import EMAModel

    average = EMAModel(accelerator.unwrap_model(student).parameters(), decay=params.ema)
    average.to(accelerator.device)
    accelerator.register_for_checkpointing(average)
    return average
