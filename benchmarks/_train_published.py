"""The step of the paper's method and that of its published script, from their description."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from _train_setting import GRADIENT_NORM, KL_WEIGHT, RATE, Setting
from diffusers import DDPMScheduler
from torch.nn import functional

from surd.training.loop import Student
from surd.training.losses import Batch


@dataclass(frozen=True)
class Lesson:
    """What a step of the method learns from, on the device."""

    latents: torch.Tensor
    """``[b, c, h, w]``."""
    simple: torch.Tensor
    """``[b, s, d]``, as of the complex prompts."""
    complex: torch.Tensor
    llm: torch.Tensor
    """``[b, 1, h]``."""
    noise: torch.Tensor
    times: torch.Tensor
    """``[b]``."""


def method_loss(
    student: Student, unet: Any, schedule: Any, lesson: Lesson, *, cut: bool
) -> torch.Tensor:
    """Section 4.3 of the paper. With `cut` no gradient passes what the UNet is given."""
    given = Batch(None, lesson.simple.float(), None, lesson.llm, None)
    embeddings, features, aim = student(given)
    noisy = schedule.add_noise(lesson.latents, lesson.noise, lesson.times)
    kind = next(unet.parameters()).dtype
    given = embeddings.detach() if cut else embeddings
    predicted = unet(noisy.to(kind), lesson.times, given.to(kind)).sample
    aimed = lesson.noise
    if schedule.config.prediction_type == "v_prediction":
        aimed = schedule.get_velocity(lesson.latents, lesson.noise, lesson.times)
    denoising = functional.mse_loss(predicted.float(), aimed.float())
    alike = divergence(features, aim) + divergence(embeddings, lesson.complex)
    return denoising + KL_WEIGHT * alike


def divergence(found: torch.Tensor, aim: torch.Tensor) -> torch.Tensor:
    """KL between what is found and what is aimed at, each token a distribution."""
    logs = functional.log_softmax(found.float(), -1)
    aims = functional.log_softmax(aim.float(), -1).expand_as(logs)
    return functional.kl_div(aims, logs, reduction="batchmean", log_target=True)


def method_steps(setting: Setting, *, cut: bool) -> Iterator[float]:
    """Steps without end, each from pixels and token ids; the loss of each."""
    pipeline, device = setting.pipeline, setting.device
    student = setting.student().train()
    learning = [parameter for parameter in student.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(learning, lr=RATE, weight_decay=setting.params.weight_decay)
    schedule = DDPMScheduler.from_config(pipeline.scheduler.config)
    step = 0
    while True:
        rows = setting.rows(step)
        latents = encode_pixels(setting, rows)
        most = schedule.config.num_train_timesteps
        lesson = Lesson(
            latents,
            *encode_prompts(setting, rows),
            setting.llm[rows].to(device),
            torch.randn_like(latents),
            torch.randint(most, (len(rows),), device=device),
        )
        with setting.autocast():
            loss = method_loss(student, pipeline.unet, schedule, lesson, cut=cut)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, GRADIENT_NORM)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        yield loss.item()


@torch.no_grad()
def encode_pixels(setting: Setting, rows: torch.Tensor) -> torch.Tensor:
    """Latents, drawn and scaled."""
    vae = setting.pipeline.vae
    pixels = setting.pixels[rows].to(setting.device, setting.dtype)
    drawn = vae.encode(pixels).latent_dist.sample()
    latents: torch.Tensor = drawn.float() * vae.config.scaling_factor
    return latents


@torch.no_grad()
def encode_prompts(setting: Setting, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """States of the simple prompts, and of the complex ones."""
    encoder = setting.pipeline.text_encoder
    simple = encoder(setting.simple[rows].to(setting.device))[0]
    return simple, encoder(setting.complex[rows].to(setting.device))[0]
