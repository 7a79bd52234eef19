"""Training an adapter: what the paper teaches it, resumable to the bit.

Everything random in a step comes from its number and the seed, so that a run that was killed and
resumed ends with the same weights as one that was left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from surd.adapter.data import Data, seed_of
from surd.adapter.files import save
from surd.adapter.losses import TERMS, losses, weighed
from surd.adapter.module import Adapter, AdapterConfig
from surd.adapter.params import TrainAdapterParams
from surd.adapter.run_folder import about_training, begin_log, checkpoint, take_up, write_log


class Student(nn.Module):
    """The adapter and the projection of the language model's vectors, `h` wide."""

    def __init__(self, config: AdapterConfig, llm_width: int, projection: str) -> None:
        super().__init__()
        self.adapter = Adapter(config)
        self.projection = nn.Linear(llm_width, config.width)
        self.projection.requires_grad_(projection == "learned")

    def forward(self, simple: torch.Tensor, llm: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """New embeddings, features, and what the features shall be."""
        adapted = self.adapter(simple)
        return adapted.embeddings, adapted.features, self.projection(llm)


def config_of(params: TrainAdapterParams, width: int) -> AdapterConfig:
    """The network that the parameters ask for."""
    return AdapterConfig(
        width=width,
        depth=params.depth,
        heads=params.heads,
        feed_forward=params.feed_forward,
        weight=params.adapter_weight,
        blend=params.blend,
        attend=params.attend,
        dropout=params.dropout,
    )


def train(
    data: Data,
    pipeline: Any,
    llm_width: int,
    params: TrainAdapterParams,
    folder: Path,
    on_step: Callable[[int, Mapping[str, float]], None] = lambda step, terms: None,
) -> Adapter:
    """Train, and leave the adapter in `folder`; returns it in evaluation mode.

    The newest whole checkpoint is taken up, if there is one.
    """
    from accelerate import Accelerator
    from accelerate.utils import set_seed
    from diffusers import DDPMScheduler
    from diffusers.optimization import get_scheduler

    accelerator = Accelerator(
        mixed_precision=precision_of(params),
        gradient_accumulation_steps=params.accumulate,
        log_with=_trackers(params.report_to),
        project_dir=folder,
    )
    set_seed(params.seed)
    student = Student(config_of(params, _width(pipeline)), llm_width, params.projection)
    learning = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = _optimizer(learning, params)
    rate = get_scheduler(
        params.schedule,
        optimizer,
        num_warmup_steps=params.warmup_steps * accelerator.num_processes,
        num_training_steps=params.steps * accelerator.num_processes,
    )
    unet = _frozen_unet(pipeline, params, accelerator)
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    student, optimizer, rate = accelerator.prepare(student, optimizer, rate)
    average = _average(accelerator, student, params)
    first = take_up(accelerator, folder)
    begin_log(folder, first, accelerator)
    student.train()
    for step in range(first, params.steps):
        sums = dict.fromkeys(("loss", *TERMS), 0.0)
        for micro in range(params.accumulate):
            number = step * params.accumulate + micro
            torch.manual_seed(seed_of(params.seed, number, accelerator.process_index, 3))
            batch = data.batch(
                number, accelerator.num_processes, accelerator.process_index, accelerator.device
            )
            noise, times = data.noise(
                number, accelerator.process_index, batch, schedule.config.num_train_timesteps
            )
            with accelerator.accumulate(student), accelerator.autocast():
                terms = losses(student, unet, schedule, batch, noise, times, params)
                loss = weighed(terms, params)
                accelerator.backward(loss)
                if accelerator.sync_gradients:
                    accelerator.clip_grad_norm_(learning, params.max_grad_norm)
                optimizer.step()
                rate.step()
                optimizer.zero_grad(set_to_none=True)
            for name, value in (("loss", loss), *terms.items()):
                sums[name] += float(value.detach()) / params.accumulate
        if average is not None:
            average.step(accelerator.unwrap_model(student).parameters())
        done = step + 1
        write_log(accelerator, folder, done, sums, rate.get_last_lr()[0])
        on_step(done, sums)
        if done % params.checkpoint_every == 0 and done < params.steps:
            checkpoint(accelerator, student, params, folder, done)
    accelerator.wait_for_everyone()
    whole: Student = accelerator.unwrap_model(student)
    if average is not None:
        average.copy_to(whole.parameters())
    if accelerator.is_main_process:
        save(
            whole.adapter,
            folder,
            projection=whole.projection,
            about=about_training(params, params.steps),
        )
    accelerator.end_training()
    return whole.adapter.eval().requires_grad_(False)


def precision_of(params: TrainAdapterParams) -> str:
    """What accelerate calls it."""
    if params.precision != "auto":
        return params.precision
    if not torch.cuda.is_available():
        return "no"
    return "bf16" if torch.cuda.is_bf16_supported() else "fp16"


def _width(pipeline: Any) -> int:
    from surd.adapter.encoding import text_width

    return text_width(pipeline)


def _optimizer(learning: Sequence[nn.Parameter], params: TrainAdapterParams) -> Any:
    how: dict[str, Any] = {"lr": params.learning_rate, "weight_decay": params.weight_decay}
    if params.adam_8bit:
        from bitsandbytes.optim import AdamW8bit

        return AdamW8bit(learning, **how)
    return torch.optim.AdamW(learning, **how)


def _frozen_unet(pipeline: Any, params: TrainAdapterParams, accelerator: Any) -> Any:
    unet = pipeline.unet.requires_grad_(False).eval()
    types = {"fp16": torch.float16, "bf16": torch.bfloat16}
    unet.to(accelerator.device, types.get(accelerator.mixed_precision, torch.float32))
    if params.gradient_checkpointing:
        unet.enable_gradient_checkpointing()
        unet.train()  # it is used in training mode only; there is no dropout in it
    return torch.compile(unet) if params.compile else unet


def _trackers(report_to: str) -> str | None:
    if report_to == "none":
        return None
    from accelerate.tracking import filter_trackers

    return report_to if filter_trackers([report_to]) else None


def _average(accelerator: Any, student: nn.Module, params: TrainAdapterParams) -> Any:
    if params.ema is None:
        return None
    from diffusers.training_utils import EMAModel

    average = EMAModel(accelerator.unwrap_model(student).parameters(), decay=params.ema)
    average.to(accelerator.device)
    accelerator.register_for_checkpointing(average)
    return average
