"""Every command and every Python block of the longest tutorial is run, in order, with small
stand-ins. The others are typed as they stand, on models with the real names (real_names/)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_blip import saved
from support_diffusion import MARKS
from support_docs import ROOT
from support_llm import make_model
from support_outputs import opened
from support_pages import AS_IT_STANDS, DEMO_MODELS, DRAWN, TRAINED, demo_site, run_page
from transformers import BlipForQuestionAnswering

from surd.demo.sentences import simple_sentence
from surd.demo.world import world

Surd = Callable[..., Any]
TUTORIALS = ROOT / "docs" / "tutorials"

pytestmark = MARKS


@pytest.fixture(autouse=True)
def here(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The folder the reader sits in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def make_release(folder: Path, count: int) -> None:
    """Pictures of the demo world, as SURD was published."""
    folder.mkdir()
    with (folder / "metadata.jsonl").open("w") as lines:
        for number, entry in enumerate(world(count, seed=1)):
            opened(entry).save(folder / f"{number:04}.png")
            words = {"text": simple_sentence(entry.scene, seed=number), "prompt": entry.prompt}
            lines.write(json.dumps({"file_name": f"{number:04}.png", **words}) + "\n")


def test_sur_adapter_is_reproduced(surd: Surd, here: Path) -> None:
    make_release(here / "SURD", 12)
    make_model(here / "tiny-llm")
    saved(here / "tiny-vqa", BlipForQuestionAnswering, window=64)
    judged = "--vqa ./tiny-vqa --clip demo:clip --limit 1 --steps 2 --guidance 2"
    world = f"{demo_site(60)} {DEMO_MODELS}"  # in the place of the recipe's sites
    said = run_page(
        TUTORIALS / "reproduce_sur_adapter.md",
        surd,
        words={
            "meta-llama/Llama-2-13b-hf": "./tiny-llm",
            "--layer 10 --layer 20 --layer 39": "--layer 1 --layer 2 --layer 3",
            "--layer 39": "--layer 3",
            "layer=10,20,39": "layer=1,2",
            "--seeds 4": "--seeds 1",
            "--seeds 2": "--seeds 1",
            "--count 4": "--count 2",
        },
        swaps={
            r"surd build surd (-o my-surd) .*": rf"surd build demo \1 {world}",
            r"surd (filter my-surd --suggest|status my-surd)": AS_IT_STANDS,
            r"surd import surd SURD -o published-surd": rf"\g<0> {DEMO_MODELS}",
            r"surd (caption|score|dedup|filter|publish) published-surd": AS_IT_STANDS,
            r"surd embed-llm my-surd .*": AS_IT_STANDS,
            r"surd train-adapter my-surd .*": rf"\g<0> {TRAINED}",
            r"surd generate --adapter my-surd/adapter/paper .*": rf"\g<0> {DRAWN}",
            r"surd evaluate my-surd/adapter/\w+ .*": rf"\g<0> {judged}",
            r"surd ablate my-surd .*": rf"\g<0> {judged}"
            " --set train_adapter.steps=2 --set train_adapter.batch_size=2",
        },
    )
    assert "0 computed" not in said["surd publish published-surd"]
    assert (here / "my-surd" / "adapter" / "ablation" / "ablation.md").is_file()
