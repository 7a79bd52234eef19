"""Commands that take a diffusion model: single files serve, unsupported models are refused."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_diffusion import MARKS, make_pipeline
from support_single_file import write_config, write_single
from support_training import command, same

Surd = Callable[..., Any]
DRAWN = ("--steps", 2, "--guidance", 3)
JUDGED = ("--prompts", "demo:plain", "--limit", 2, "--seeds", 1, "--clip", "none", "--quiet")

pytestmark = MARKS


def test_a_single_file_serves_wherever_a_diffusion_model_is_named(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipeline = make_pipeline()
    name = str(write_single(pipeline, tmp_path / "models" / "mine.safetensors"))
    write_config(pipeline, tmp_path / "models" / "mine")
    monkeypatch.chdir(tmp_path)
    for file, run in ((name, tmp_path / "run"), (diffusion, tmp_path / "of-folder")):
        assert surd(*command(workspace, file, run, 2), "-q").code == 0
    assert same(tmp_path / "run", tmp_path / "of-folder")
    card = (tmp_path / "run" / "README.md").read_text()
    assert "# A SUR-adapter for mine.safetensors" in card and "base_model" not in card
    ran = surd("generate", "a cat", "--adapter", tmp_path / "run", *DRAWN, "-o", tmp_path / "out")
    assert ran.code == 0, ran.err
    ran = surd("evaluate", tmp_path / "run", *JUDGED, *DRAWN)
    assert ran.code == 0, ran.err
    relative = ("--diffusion", "models/mine.safetensors")
    ran = surd("evaluate", tmp_path / "run", *relative, *JUDGED, *DRAWN)
    assert ran.code == 0, ran.err
    assert len(list((tmp_path / "run" / "pictures").iterdir())) == 2, "it is the same model"


def test_a_model_that_is_not_understood_is_refused_before_anything_is_computed(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    inpainting = str(tmp_path / "inpainting")
    make_pipeline(unet={"in_channels": 9}).save_pretrained(inpainting)
    run = tmp_path / "run"
    assert surd(*command(workspace, diffusion, run, 2), "-q").code == 0
    shutil.rmtree(workspace / "adapter")
    named = ("--diffusion", inpainting)
    setting = (
        "--set",
        f"train_adapter.diffusion={inpainting}",
        "--set",
        "train_adapter.llm=tiny-llm",
    )
    for told in (
        (*command(workspace, inpainting, tmp_path / "other", 2), "-q"),
        ("generate", "a cat", "--adapter", run, *named, "-o", tmp_path / "out"),
        ("evaluate", run, *named, *JUDGED),
        ("ablate", workspace, "--vary", "steps=2", *setting, *JUDGED),
    ):
        ran = surd(*told)
        assert ran.code == 2
        assert ran.err.count("\n") == 1 and "its UNet has 9 in_channels" in ran.err
    for path in (workspace / "adapter", tmp_path / "other", tmp_path / "out", run / "pictures"):
        assert not path.exists()
