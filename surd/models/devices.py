"""Where a model runs, and in which precision."""

from __future__ import annotations

import os
from typing import Literal

import torch

from surd.errors import ModelError

Precision = Literal["auto", "fp32", "bf16", "fp16"]

PRETEND_VARIABLE = "SURD_PRETEND_GPU_DTYPE"
"""What ``auto`` is to be here, as if on a GPU: for tests on machines without one."""
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def device_named(name: str) -> torch.device:
    """``auto`` is a GPU where this torch sees one. Raises ModelError in one line."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise ModelError(f"device {name}: this torch sees no GPU; use cpu, or see: surd doctor")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).split("\n", 1)[0]
        raise ModelError(f"device {name}: {reason}; use auto, cpu or cuda") from error
    return device


def dtype_of(precision: Precision, device: torch.device) -> torch.dtype:
    """``auto`` is bf16 on GPUs that compute in it, fp16 on older ones (T4, V100), else fp32.

    Raises ModelError where the environment has it pretend something else.
    """
    if precision != "auto":
        return _DTYPES[precision]
    if os.environ.get(PRETEND_VARIABLE):
        return _pretended(os.environ[PRETEND_VARIABLE])
    if device.type != "cuda":
        return torch.float32
    with torch.cuda.device(device):
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float16


def _pretended(name: str) -> torch.dtype:
    if name not in _DTYPES:
        raise ModelError(f"{PRETEND_VARIABLE}={name}: no precision; use bf16, fp16 or fp32")
    return _DTYPES[name]
