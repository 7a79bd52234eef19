"""NaN and infinity: training stops at the first, and nothing of them is written or loaded."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from diffusers.training_utils import compute_snr
from safetensors.torch import load_file, save_file
from support_diffusion import MARKS, make_pipeline
from support_training import command

from surd import adapter as adapters
from surd.adapter.encoding import prompt_inputs
from surd.adapter.module import Adapter, AdapterConfig
from surd.errors import ModelError
from surd.llm import embeddings
from surd.llm.prompt2vec import import_prompt2vec
from surd.recipe.train_adapter import TrainAdapterParams
from surd.store.workspace import Workspace
from surd.training.finite import check_finite
from surd.training.losses import Batch, min_snr

Surd = Callable[..., Any]

pytestmark = MARKS


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (
            {"learning_rate": 1e9},
            "step 2: the denoising loss is NaN or infinite: the learning rate",
        ),
        (
            {"learning_rate": 1e30, "weight_decay": 1e10, "checkpoint_every": 1},
            "step 1: a weight of the adapter is NaN or infinite",
        ),
        (
            {"learning_rate": 1e9, "checkpoint_every": 1},
            "step 1: what the adapter now gives is NaN or infinite: the learning rate",
        ),
        (
            {"validation_prompts": '["a cup"]', "validation_steps": 1001},
            "1,001 steps: this diffusion model takes 1 to 1,000",
        ),
    ],
)
def test_training_stops_at_the_first_number_that_is_not_finite(
    surd: Surd,
    workspace: Path,
    diffusion: str,
    tmp_path: Path,
    more: dict[str, float],
    says: str,
) -> None:
    ran = surd(*command(workspace, diffusion, tmp_path / "run", 3, **more), "-q")
    assert ran.code == 2 and says in ran.err and ran.err.count("\n") == 1
    assert not [*(tmp_path / "run").rglob("*.safetensors")]
    assert surd(*command(workspace, diffusion, tmp_path / "run", 2), "--resume", "none").code == 0


def test_a_gradient_that_is_not_finite_stops_it_too(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    norms = iter([1.0, float("inf")])
    monkeypatch.setattr(
        "accelerate.Accelerator.clip_grad_norm_", lambda *_: torch.tensor(next(norms))
    )
    ran = surd(*command(workspace, diffusion, tmp_path / "run", 3), "-q")
    assert ran.code == 2 and "step 2: the gradient is NaN or infinite" in ran.err


@pytest.mark.parametrize(
    ("part", "more", "says"),
    [
        ("unet", (), "step 1: the denoising loss is NaN or infinite: nothing was learned before"),
        ("vae", (), "what the diffusion model makes of it (latents) holds NaN"),
        ("vae", ("--no-cache",), "the latents of its samples already are"),
        ("text_encoder", (), "what the diffusion model makes of it (states) holds NaN"),
    ],
)
def test_a_model_that_gives_nan_is_named_instead_of_the_learning_rate(
    surd: Surd, workspace: Path, tmp_path: Path, part: str, more: tuple[str], says: str
) -> None:
    pipeline = make_pipeline()
    next(getattr(pipeline, part).parameters()).data.fill_(torch.nan)
    pipeline.save_pretrained(tmp_path / "sd")
    ran = surd(*command(workspace, str(tmp_path / "sd"), tmp_path / "run", 2), *more, "-q")
    assert ran.code == 2 and says in ran.err and ran.err.count("\n") == 1


@pytest.mark.parametrize(("scale", "stops"), [(1024.0, False), (0.5, True)])
def test_in_fp16_a_gradient_may_overflow_as_long_as_it_can_be_scaled_less(
    scale: float, stops: bool
) -> None:
    scaler = SimpleNamespace(get_scale=lambda: scale)
    accelerator = SimpleNamespace(scaler=scaler, mixed_precision="fp16")
    fine = torch.zeros(1, 1, 1)
    given = (TrainAdapterParams(), accelerator, 5, {"loss": torch.tensor(1.0)})
    batch = Batch(fine, fine, fine, fine, None)
    with pytest.raises(ModelError, match="fp16 overflows") if stops else nullcontext():
        check_finite(*given, torch.tensor(torch.inf), batch)


def make_adapter(fill: float) -> Adapter:
    torch.manual_seed(0)
    adapter = Adapter(AdapterConfig(width=32, heads=4, feed_forward=32))
    adapter.out.bias.data.fill_(fill)
    return adapter


def test_an_adapter_of_such_weights_is_neither_written_nor_loaded(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"nothing was written: out.bias holds NaN or infinity"):
        adapters.save(make_adapter(torch.inf), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    adapters.save(make_adapter(1), tmp_path / "run")
    path = tmp_path / "run" / "adapter_model.safetensors"
    weights = load_file(path)
    weights["out.bias"][3] = torch.nan
    save_file(weights, path)
    with pytest.raises(ModelError, match=r"safetensors: out.bias holds NaN or infinity") as caught:
        adapters.load(tmp_path / "run")
    assert "\n" not in str(caught.value)


def test_embeddings_that_are_not_finite_are_one_line_and_no_black_picture() -> None:
    adapter = make_adapter(0)
    adapter.out.weight.data.fill_(3e38)
    with pytest.raises(ModelError, match="turns this prompt into NaN or infinity"):
        prompt_inputs(make_pipeline(), adapter, ["two cups"])


def test_zero_terminal_snr_has_a_weight_for_either_kind_of_prediction() -> None:
    schedule = DDPMScheduler(rescale_betas_zero_snr=True)
    snr = compute_snr(schedule, torch.arange(1000))
    assert snr[-1] == 0
    kinds = ("epsilon", "v_prediction", "sample")
    noise, velocity, picture = (min_snr(snr, 5.0, kind) for kind in kinds)
    assert noise.isfinite().all() and velocity.isfinite().all()
    assert (noise[-1], velocity[-1], picture[-1]) == (1, 0, 0)
    below = snr[:-1].clamp(max=5)
    torch.testing.assert_close(picture[:-1], below)
    torch.testing.assert_close(noise[:-1], below / snr[:-1])
    torch.testing.assert_close(velocity[:-1], below / (snr[:-1] + 1))


def test_a_setting_that_is_infinite_is_refused(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    run = command(workspace, diffusion, tmp_path / "run", 2, adapter_weight=".inf")
    ran = surd(*run, "-q")
    assert ran.code == 2 and "adapter_weight" in ran.err and "finite" in ran.err


def test_imported_vectors_that_are_not_finite_are_left_out(workspace: Path, tmp_path: Path) -> None:
    vectors = embeddings.load(workspace, "tiny-llm", 3)
    there = Workspace(workspace)
    rows = there.read("clip", 0, ["id", "simple_prompt"]).to_pylist()[:4]
    values = {row["simple_prompt"]: torch.ones(vectors.width) for row in rows}
    for row, value in zip(rows, (torch.nan, torch.inf, 1e6, 2.0), strict=True):
        values[row["simple_prompt"]][1] = value
    torch.save(values, tmp_path / "v.pt")
    assert import_prompt2vec(there, tmp_path / "v.pt", "odd", 1) == 1
    found = there.read("llm/odd/layer-1", 0, ["status"])["status"].to_pylist()[:4]
    assert found == ["not_finite", "overflow", "overflow", "ok"]
    assert list(embeddings.load(workspace, "odd", 1)) == [rows[3]["id"]]
