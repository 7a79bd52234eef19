"""Memory that runs out while an adapter is trained, or its pictures are drawn."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support_diffusion import MARKS, make_pipeline
from support_training import command

from surd.adapter import encoding
from surd.dataset.published import open_published
from surd.errors import ModelError
from surd.models.memory import AtOnce
from surd.training import loop
from surd.training.latents import Cut, encode_pictures
from surd.training.views import picture_reader

Surd = Callable[..., Any]

pytestmark = MARKS


def scarce(work: Callable[..., Any], holds: int, seen: list[int]) -> Callable[..., Any]:
    """The work, with memory for so many."""

    def limited(*arguments: Any, **how: Any) -> Any:
        some = next(a for a in arguments if isinstance(a, list | torch.Tensor))
        seen.append(len(some))
        if len(some) > holds:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return work(*arguments, **how)

    return limited


def test_the_autoencoder_is_given_fewer_pictures_and_says_the_same(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline, seen = make_pipeline(), list[int]()
    pictures = picture_reader(open_published(str(workspace)), "train")(range(7))
    cut = Cut(16, flip=True, crops=2)
    right = encode_pictures(pipeline.vae, pictures, cut, AtOnce(7))
    monkeypatch.setattr(pipeline.vae, "encode", scarce(pipeline.vae.encode, 3, seen))
    at_once = AtOnce(7)
    found = encode_pictures(pipeline.vae, pictures, cut, at_once)
    torch.testing.assert_close(found, right)
    assert max(seen) == 7 and at_once.size <= 3, "the next part asks for less"
    monkeypatch.setattr(pipeline.vae, "encode", scarce(pipeline.vae.encode, 0, seen))
    with pytest.raises(ModelError, match="one picture of 16 pixels; set a smaller"):
        encode_pictures(pipeline.vae, pictures, cut, AtOnce(7))


@pytest.mark.parametrize(
    ("place", "says"),
    [
        ("surd.training.texts.encode", "even one prompt"),
        ("surd.training.latents._latents", "even one picture of 16 pixels"),
        ("surd.training.queries.ask", "to run the UNet on one picture of 16 pixels"),
        ("surd.training.prepare.learning_unet", "to prepare the training; close other programs"),
    ],
)
def test_a_preparation_that_runs_out_is_one_line(
    surd: Surd,
    workspace: Path,
    diffusion: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    says: str,
) -> None:
    def run_out(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    shutil.copytree(workspace, tmp_path / "w", ignore=shutil.ignore_patterns("adapter"))
    monkeypatch.setattr(place, run_out)
    ran = surd(*command(tmp_path / "w", diffusion, tmp_path / "run", 3, attention_weight=1), "-q")
    assert ran.code == 2 and "not enough memory" in ran.err and says in ran.err
    assert ran.err.rstrip().splitlines()[-1].startswith("surd: ") and "Traceback" not in ran.err


def test_pictures_are_the_same_when_fewer_are_drawn_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pipeline, seen = make_pipeline(), list[int]()
    prompts, seeds = [f"{n} red circles" for n in range(5)], list(range(5))
    call = {"num_inference_steps": 2, "guidance_scale": 4.0, "output_type": "np"}
    call["negative_prompts"] = ["blue", "", "green", "", "red"]
    right = encoding.generate(pipeline, None, prompts, seeds, **call)
    monkeypatch.setattr(encoding, "prompt_inputs", scarce(encoding.prompt_inputs, 2, seen))
    found = encoding.generate(pipeline, None, prompts, seeds, **call)
    np.testing.assert_allclose(np.stack(found), np.stack(right), atol=1e-3)
    assert max(seen) == 5
    monkeypatch.setattr(encoding, "prompt_inputs", scarce(encoding.prompt_inputs, 0, seen))
    with pytest.raises(ModelError, match="not enough memory to draw even one picture"):
        encoding.generate(pipeline, None, prompts, seeds, **call)


@pytest.mark.parametrize(
    ("settings", "mend"),
    [
        ({}, "--set train_adapter.gradient_checkpointing=true, which takes more time"),
        (
            {"gradient_checkpointing": "true"},
            "--batch-size 1 --set train_adapter.accumulate=4 --resume none",
        ),
        (
            {"gradient_checkpointing": "true", "batch_size": 1},
            "a smaller train_adapter.resolution and --resume none",
        ),
    ],
)
def test_a_training_that_runs_out_says_what_takes_less(
    surd: Surd,
    workspace: Path,
    diffusion: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    settings: dict[str, Any],
    mend: str,
) -> None:
    def run_out(*arguments: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB.")

    monkeypatch.setattr(loop, "_micro_step", run_out)
    ran = surd(*command(workspace, diffusion, tmp_path / "run", 3, **settings), "-q")
    line = f"surd: out of memory in step 1; rerun the same command with {mend}\n"
    assert (ran.code, ran.err) == (2, line)
