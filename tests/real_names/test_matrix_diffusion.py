"""Diffusion models in each type: drawing as diffusers draws, training, measuring, refusals."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image
from support_diffusion import make_published

from real_names.matrix import MARKS, TYPES, refusing
from real_names.pipelines import MODELS, SUPPORTED
from real_names.zoo import Zoo
from surd import adapter as adapters
from surd.adapter.encoding import generate
from surd.adapter.generate import Wish
from surd.adapter.generate import draw as draw_files
from surd.evaluate.run import Options, evaluate
from surd.models.diffusion import load_pipeline
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.run import run as train

pytestmark = MARKS
PROMPT, NEGATIVE = "two red cups on a table", "blurry"
STEPS = {"num_inference_steps": 3, "guidance_scale": 7.5}
REFUSED = sorted(MODELS.keys() - set(SUPPORTED))
KINDS = ["fp32", "bf16", pytest.param("fp16", marks=pytest.mark.long)]
LEVELS = {"fp32": 0, "bf16": 1, "fp16": 1}
"""Grey levels by which pictures may differ: surd draws two halves of guidance as diffusers does."""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("published") / "w"
    make_published(folder, 6, llm_width=24)
    return folder


def levels(one: Image.Image, other: Image.Image) -> int:
    """The largest difference of two pictures; both show something."""
    left, right = (np.asarray(image).astype(int) for image in (one, other))
    assert left.std() > 1 and right.std() > 1
    return int(np.abs(left - right).max())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", SUPPORTED)
@pytest.mark.parametrize("negative", ["", NEGATIVE])
def test_the_base_model_draws_as_diffusers_does(
    name: str, kind: str, negative: str, zoo: Zoo
) -> None:
    folder = str(zoo.folder(name))
    noise = torch.Generator("cpu").manual_seed(7)
    plain = DiffusionPipeline.from_pretrained(folder, dtype=TYPES[kind], safety_checker=None)
    plain.set_progress_bar_config(disable=True)
    asked = {"negative_prompt": negative} if negative else {}
    (wanted,) = plain(PROMPT, generator=noise, **asked, **STEPS).images
    pipeline = load_pipeline(folder, dtype=TYPES[kind])
    (found,) = generate(pipeline, None, [PROMPT], [7], negative_prompts=[negative], **STEPS)
    assert levels(found, wanted) <= LEVELS[kind]


@pytest.mark.parametrize("precision", ["bf16", pytest.param("no", marks=pytest.mark.long)])
@pytest.mark.parametrize("name", SUPPORTED)
def test_an_adapter_learns_draws_and_is_measured(
    name: str, precision: str, zoo: Zoo, workspace: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """As on a GPU; the long form also as on a CPU."""
    monkeypatch.setenv("SURD_PRETEND_GPU_DTYPE", {"no": "fp32"}.get(precision, precision))
    params = TrainAdapterParams(
        diffusion=str(zoo.folder(name)), llm="tiny-llm", steps=2, accumulate=2, feed_forward=32,
        report_to="none", attention_weight=1.0, snr_gamma=5.0, resolution=64,
    )  # fmt: skip
    run = tmp_path / "run"
    train(str(workspace), params, run, resume=False, quiet=True)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in log] == [1, 2]
    assert all(math.isfinite(entry["loss"]) for entry in log)
    learnt = adapters.load(run)
    assert all(bool(p.isfinite().all()) for p in learnt.parameters())
    (path,) = draw_files(run, Wish([PROMPT], [7], steps=2, compare=True), tmp_path / "pictures")
    assert np.asarray(Image.open(path)).std() > 1
    options = Options(
        prompts=("color",), seeds=1, limit=1, steps=2, clip="demo:clip",
        vqa=str(zoo.folder("Salesforce/blip-vqa-base")),
    )  # fmt: skip
    for wrong in ({"clip": "ViT-B-32/nothing"}, {"vqa": str(zoo.folder("openai-community/gpt2"))}):
        with refusing():
            evaluate(run, replace(options, **wrong), quiet=True)
        assert not (run / "pictures").exists()  # nothing is drawn that nobody can judge
    rows: list[Any] = evaluate(run, options, quiet=True)
    assert all(math.isfinite(e.value) for row in rows for e in (row.base, row.adapter))


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_come_out_wrong_is_refused(
    name: str, zoo: Zoo, workspace: Path, tmp_path: Path
) -> None:
    folder = str(zoo.folder(name))
    with refusing():
        load_pipeline(folder)
    params = TrainAdapterParams(diffusion=folder, llm="tiny-llm", steps=2, report_to="none")
    before = sorted((workspace / "adapter").rglob("*"))
    with refusing():
        train(str(workspace), params, tmp_path / "run", resume=False, quiet=True)
    assert sorted((workspace / "adapter").rglob("*")) == before
    assert not (tmp_path / "run").exists()
