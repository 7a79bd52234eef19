"""Training an adapter: what the paper teaches it, resumable to the bit.

Everything random in a step comes from its number and the seed, so that a run that was killed and
resumed ends with the same weights as one that was left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from surd.adapter.cache import Cached
from surd.adapter.files import save
from surd.adapter.losses import distance
from surd.adapter.module import Adapter, AdapterConfig
from surd.adapter.params import TrainAdapterParams
from surd.adapter.run_folder import about_training, begin_log, checkpoint, take_up, write_log
from surd.embeddings import Embeddings

TERMS = ("denoising", "llm", "prompt")


@dataclass(frozen=True)
class Batch:
    """Rows of the data, on the device; b batch, s tokens, d text width, h width of the LLM."""

    latents: torch.Tensor
    """``[b, c, h, w]``, drawn from the autoencoder's Gaussian and scaled."""
    simple: torch.Tensor
    """``[b, s, d]``."""
    complex: torch.Tensor
    """``[b, s, d]``."""
    llm: torch.Tensor
    """``[b, 1, h]``."""
    pooled: torch.Tensor | None
    side: int
    """Of the pictures, in pixels."""


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


def losses(
    student: nn.Module,
    unet: Any,
    schedule: Any,
    batch: Batch,
    noise: torch.Tensor,
    times: torch.Tensor,
    params: TrainAdapterParams,
) -> dict[str, torch.Tensor]:
    """The three terms, before they are weighed.

    `schedule` is the noise scheduler; `noise` ``[b, c, h, w]`` and `times` ``[b]`` are drawn by
    the caller. Source: the paper's section 4.3; Min-SNR weights: arXiv:2303.09556, section 3.4.
    """
    embeddings, features, aim = student(batch.simple, batch.llm)
    terms = {
        "llm": distance(features, aim, params.distance, params.temperature),
        "prompt": distance(embeddings, batch.complex, params.distance, params.temperature),
    }
    noisy = schedule.add_noise(batch.latents, noise, times)
    extra = {}
    if batch.pooled is not None:
        sizes = [[batch.side, batch.side, 0, 0, batch.side, batch.side]]
        ids = torch.tensor(sizes, device=noise.device)
        extra = {"text_embeds": batch.pooled, "time_ids": ids.repeat(len(noise), 1)}
    weight_type = next(unet.parameters()).dtype
    with torch.set_grad_enabled(torch.is_grad_enabled() and params.denoising_weight > 0):
        predicted = unet(
            noisy.to(weight_type),
            times,
            embeddings.to(weight_type),
            added_cond_kwargs=extra or None,
        ).sample
    kind = schedule.config.prediction_type
    wanted = noise if kind == "epsilon" else schedule.get_velocity(batch.latents, noise, times)
    error = functional.mse_loss(predicted.float(), wanted.float(), reduction="none")
    error = error.mean(dim=(1, 2, 3))
    if params.snr_gamma is not None:
        from diffusers.training_utils import compute_snr

        snr = compute_snr(schedule, times)
        below = snr.clamp(max=params.snr_gamma)
        error = error * below / (snr if kind == "epsilon" else snr + 1)
    terms["denoising"] = error.mean()
    return terms


def weighed(terms: Mapping[str, torch.Tensor], params: TrainAdapterParams) -> torch.Tensor:
    """The sum that is minimised."""
    total = params.llm_weight * terms["llm"] + params.prompt_weight * terms["prompt"]
    if params.denoising_weight:
        total = total + params.denoising_weight * terms["denoising"]
    return total


class Data:
    """The cached dataset beside the language model's vectors: batches by number."""

    def __init__(
        self, cached: Cached, vectors: Embeddings, pipeline: Any, params: TrainAdapterParams
    ) -> None:
        self._cached, self._vectors, self._params = cached, vectors, params
        self.rows = [row for row, id_ in enumerate(cached.ids) if id_ in vectors]
        config = pipeline.vae.config
        self._scale = config.scaling_factor
        self._shift = getattr(config, "shift_factor", None) or 0.0
        self._pixels = pipeline.vae_scale_factor
        self._epoch = -1
        self._order: list[int] = []

    def batch(self, number: int, processes: int, process: int, device: torch.device) -> Batch:
        """What one process learns from in one micro step."""
        size = self._params.batch_size
        rows = [self._row((number * processes + process) * size + i) for i in range(size)]
        tensors = self._cached.take(rows)
        generator = _generator(self._params.seed, number, process, 1)
        latents = tensors["latents"]  # [b, variants, 2 c, h, w]
        variant = torch.randint(latents.shape[1], (size,), generator=generator)
        mean, std = latents[torch.arange(size), variant].chunk(2, dim=1)
        drawn = mean + std * torch.randn(mean.shape, generator=generator)
        scaled = (drawn - self._shift) * self._scale
        ids = [self._cached.ids[row] for row in rows]
        llm = torch.from_numpy(self._vectors.take(ids).astype(np.float32))[:, None]
        pooled = tensors.get("pooled")
        return Batch(
            scaled.to(device),
            tensors["simple"].to(device),
            tensors["complex"].to(device),
            llm.to(device),
            pooled.to(device) if pooled is not None else None,
            latents.shape[-1] * self._pixels,
        )

    def noise(
        self, number: int, process: int, batch: Batch, times: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Noise ``[b, c, h, w]`` and timesteps ``[b]`` of a micro step."""
        generator = _generator(self._params.seed, number, process, 2)
        shape = batch.latents.shape
        noise = torch.randn(shape, generator=generator)
        if self._params.noise_offset:
            offset = torch.randn((*shape[:2], 1, 1), generator=generator)
            noise = noise + self._params.noise_offset * offset
        when = torch.randint(times, (shape[0],), generator=generator)
        return noise.to(batch.latents.device), when.to(batch.latents.device)

    def _row(self, position: int) -> int:
        """The row at a position of an endless stream of shuffled epochs."""
        epoch, place = divmod(position, len(self.rows))
        if self._epoch != epoch:
            rng = np.random.default_rng((self._params.seed, epoch))
            self._epoch, self._order = epoch, rng.permutation(self.rows).tolist()
        return self._order[place]


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(_seed(*numbers))


def _seed(*numbers: int) -> int:
    """One seed of several numbers: the run's, the micro step's, the process's, the purpose's."""
    (mixed,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    seed: int = int(mixed) >> 1
    return seed


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
            torch.manual_seed(_seed(params.seed, number, accelerator.process_index, 3))
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
