"""What the matrix's parts share: types, pictures, and what a refusal is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from PIL import Image

from real_names.civitai import opened_pictures
from surd.errors import SurdError

TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
NEAR = {"fp32": 2e-5, "bf16": 0.06, "fp16": 0.01, "kept in fp16": 1e-3}
"""How far off, of the norm, what is the same but for rounding may be."""
MARKS = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
"""The libraries warn of much when they are called plainly."""


def types(long: tuple[str, ...] = ("fp16",)) -> list[object]:
    """All three, some only in the long form."""
    return [pytest.param(t, marks=[pytest.mark.long] if t in long else []) for t in TYPES]


def apart(found: torch.Tensor, wanted: torch.Tensor) -> float:
    """How far two tensors of one shape, both finite, are apart, of the norm."""
    found, wanted = found.float(), wanted.float()
    assert found.shape == wanted.shape and bool(found.isfinite().all())
    return float((found - wanted).norm() / wanted.norm().clamp(min=1e-12))


def near(found: torch.Tensor, wanted: torch.Tensor, kind: str) -> bool:
    """Whether they are the same but for rounding."""
    return apart(found, wanted) < NEAR[kind]


def pictures(count: int = 3) -> list[Image.Image]:
    """Of different shapes."""
    return [image.resize((128 + 32 * n, 128)) for n, image in enumerate(opened_pictures(count))]


@contextmanager
def refusing() -> Iterator[pytest.ExceptionInfo[SurdError]]:
    """Passes where the block is refused in one line."""
    with pytest.raises(SurdError) as refusal:
        yield refusal
    assert "\n" not in str(refusal.value)
