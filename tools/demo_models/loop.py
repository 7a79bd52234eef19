"""A training loop that can be killed and goes on exactly where its last checkpoint was."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

_EMA_DECAY = 0.999
_LOG_EVERY = 50
_SAVE_EVERY_S = 60.0

LossOf = Callable[[int], torch.Tensor]


def fit(
    name: str,
    model: nn.Module,
    loss_of: LossOf,
    *,
    steps: int,
    lr: float,
    checkpoint: Path,
    warmup: int = 200,
    weight_decay: float = 0.01,
) -> None:
    """Minimise ``loss_of(step)`` over the model's trainable parameters; leave their EMA in it,
    and that of its buffers (the running statistics of batch norm).

    AdamW, linear warm-up, cosine decay, gradient norm clipped at 1. Everything random in a step
    must come from its number (``torch.manual_seed`` is set here), so that a resumed run equals an
    undisturbed one.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    averaged = [*parameters, *(b for b in model.buffers() if b.is_floating_point())]
    optimizer = torch.optim.AdamW(parameters, lr=lr, weight_decay=weight_decay, betas=(0.9, 0.98))
    average = [p.detach().clone() for p in averaged]
    first = _load(checkpoint, model, optimizer, average)
    model.train()
    started = saved = time.monotonic()
    recent: list[float] = []
    for step in range(first, steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * _schedule(step, steps, warmup)
        torch.manual_seed(step)
        loss = loss_of(step)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        decay = min(_EMA_DECAY, (1 + step) / (10 + step))
        with torch.no_grad():
            for mean_weight, weight in zip(average, averaged, strict=True):
                mean_weight.lerp_(weight, 1 - decay)
        recent.append(float(loss.detach()))
        if (step + 1) % _LOG_EVERY == 0:
            rate = (step + 1 - first) / (time.monotonic() - started)
            left_s = (steps - step - 1) / rate
            mean = sum(recent) / len(recent)
            print(
                f"{name}: step {step + 1}/{steps}, loss {mean:.4f}, {rate:.2f} steps/s, "
                f"{left_s:.0f} s left",
                flush=True,
            )
            recent = []
        if time.monotonic() - saved > _SAVE_EVERY_S:
            _save(checkpoint, model, optimizer, average, step + 1)
            saved = time.monotonic()
    _save(checkpoint, model, optimizer, average, max(first, steps))
    with torch.no_grad():
        for value, mean_value in zip(averaged, average, strict=True):
            value.copy_(mean_value)
    model.eval()


def _schedule(step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def _save(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    average: list[torch.Tensor],
    step: int,
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    state = {
        "model": model.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average,
        "step": step,
    }
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def _load(
    path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, average: list[torch.Tensor]
) -> int:
    if not path.is_file():
        return 0
    state = torch.load(path, map_location="cpu", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    with torch.no_grad():
        for mine, theirs in zip(average, state["average"], strict=True):
            mine.copy_(theirs)
    return int(state["step"])
