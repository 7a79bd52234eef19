"""The tutorials, typed as they stand, on models with the real names."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin
from support_docs import ROOT
from support_hub import Hub

from real_names.civitai import large_pictures, serving_civitai
from real_names.hub import surroundings
from real_names.shell import Forked, Shell, headings

TUTORIALS = ROOT / "docs" / "tutorials"
STEPS = "train_adapter.steps=3"
FEW = {
    "SURD_TRAIN_ADAPTER_STEPS": "3",
    "SURD_ABLATE_LIMIT": "1",
    "SURD_EVALUATE_LIMIT": "1",
    "SURD_VIEW_PORT": "0",
}


@pytest.fixture
def shell(hub: Hub, home: Path, forked: Forked, tmp_path: Path) -> Shell:
    return Shell(tmp_path, surroundings(hub, home) | FEW, forked)


def make_outputs(folder: Path, count: int) -> None:
    """Pictures as AUTOMATIC1111 saves them."""
    folder.mkdir()
    for number, picture in enumerate(large_pictures(count)):
        info = PngImagePlugin.PngInfo()
        told = f"{picture.prompt}\nNegative prompt: blurry\nSteps: 20, Sampler: Euler a, Seed: 1"
        info.add_text("parameters", told)
        Image.open(io.BytesIO(picture.data)).save(folder / f"{number:05}-1.png", pnginfo=info)


def make_release(folder: Path, count: int) -> None:
    """Pictures as SURD was published."""
    folder.mkdir()
    with (folder / "metadata.jsonl").open("w") as lines:
        for number, picture in enumerate(large_pictures(count)):
            Image.open(io.BytesIO(picture.data)).save(folder / f"{number:04}.png")
            words = {"text": "a red circle on a green ground", "prompt": picture.prompt}
            lines.write(json.dumps({"file_name": f"{number:04}.png", **words}) + "\n")


@pytest.mark.timeout(900)
def test_your_own_folder_and_your_own_language_model(hub: Hub, shell: Shell) -> None:
    """The second tutorial continues in the folder that the first leaves."""
    make_outputs(shell.folder / "outputs", 16)
    printed = shell.types(TUTORIALS / "own_folder.md", "")
    assert "0 new" in printed["surd collect my-data"]
    assert "license: cc-by-4.0" in hub.files("datasets/me/my-data")["README.md"].decode()
    shell.runs("between", ["surd", "build", "-o", "my-data", "--set", STEPS])  # for its ablation
    shell.types(TUTORIALS / "own_llm.md", "")
    rows = (shell.folder / "my-data" / "adapter" / "ablation" / "ablation.md").read_text()
    assert "layer=14" in rows and "layer=28" in rows


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_sur_adapter_is_reproduced(shell: Shell) -> None:
    make_release(shell.folder / "SURD", 8)
    with serving_civitai(24) as site:
        closed = ("LEXICA_ENDPOINT", "STABLE_DIFFUSION_ONLINE_ENDPOINT")
        shell.environment |= dict.fromkeys(("CIVITAI_ENDPOINT", *closed), site.url)
        printed = {}
        for heading in headings(TUTORIALS / "reproduce_sur_adapter.md"):
            if heading.startswith("## 5."):  # it ablates with the workspace's own settings
                shell.runs("between", ["surd", "build", "-o", "my-surd", "--set", STEPS])
            printed |= shell.types(TUTORIALS / "reproduce_sur_adapter.md", heading)
    assert "0 computed" not in printed["surd publish published-surd"]
    rows = (shell.folder / "my-surd" / "adapter" / "ablation" / "ablation.md").read_text()
    assert all(f"layer={layer}" in rows for layer in (10, 20, 39))
