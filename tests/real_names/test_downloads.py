"""What is fetched from the hub for a name, and what is said where it has none."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support_hub import Hub

from real_names.matrix import MARKS, refusing
from surd.models.captioner import load_captioner
from surd.models.clip import load_clip
from surd.models.diffusion import load_pipeline
from surd.models.llm import load_llm
from surd.models.vqa import load_vqa

pytestmark = MARKS
ROLES: dict[str, Callable[[str], Any]] = {
    "caption": load_captioner,
    "judge": lambda name: load_vqa(name, device=torch.device("cpu"), dtype=torch.float32),
    "draw": load_pipeline,
    "embed": lambda name: load_llm(name, [1]),
}
NAMES = {
    "Salesforce/blip-image-captioning-base": "caption",
    "Salesforce/blip-vqa-base": "judge",
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "draw",
    "stabilityai/stable-diffusion-xl-base-1.0": "draw",
    "openai-community/gpt2": "embed",
    "facebook/opt-350m": "embed",
}


def stored(hub: Hub) -> list[str]:
    """Large files that were fetched."""
    paths = [asked.path for asked in hub.asked if asked.method == "GET"]
    return [found[1] for path in paths if (found := re.match(r"/stored/[^/]+/[^/]+/(.+)", path))]


@pytest.mark.parametrize("name", NAMES)
def test_only_what_is_loaded_is_fetched(
    name: str, hub: Hub, online: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Neither pickles nor halves beside the weights, nor a checker that is not used."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    hub.asked.clear()
    ROLES[NAMES[name]](name)
    files = stored(hub)
    assert files and len(files) == len(set(files))
    assert not [path for path in files if "fp16" in path or "safety_checker" in path]
    assert not [path for path in files if path.endswith(".bin")] or name == "facebook/opt-350m"
    hub.asked.clear()
    ROLES[NAMES[name]](name)
    assert not stored(hub)


@pytest.mark.parametrize("role", ROLES)
def test_a_name_that_the_hub_does_not_know_is_one_line(role: str, online: None) -> None:
    with refusing() as refusal:
        ROLES[role]("nobody/nothing")
    assert re.search(r"'nobody/nothing' is not on http://\S+, or it is private", str(refusal.value))


def test_a_clip_that_the_hub_does_not_know_is_one_line(online: None) -> None:
    with refusing() as refusal:
        load_clip("hf-hub:nobody/nothing")
    assert "is not on http://" in str(refusal.value)


@pytest.mark.parametrize(
    ("role", "name", "said"),
    [("draw", "openai-community/gpt2", "it has no model_index.json, as a diffusion model has"),
     ("caption", "openai-community/gpt2", "a GPT2 is no captioner"),
     ("judge", "google-bert/bert-base-uncased", "has no chat template"),
     ("embed", "stable-diffusion-v1-5/stable-diffusion-v1-5", "Unrecognized model"),
     ("caption", "stable-diffusion-v1-5/stable-diffusion-v1-5", "Unrecognized model"),
     ("judge", "stabilityai/stable-diffusion-xl-base-1.0", "Unrecognized model")],
)  # fmt: skip
def test_a_model_of_another_kind_is_one_line(role: str, name: str, said: str, online: None) -> None:
    with refusing() as refusal:
        ROLES[role](name)
    assert name in str(refusal.value) and said in str(refusal.value)
