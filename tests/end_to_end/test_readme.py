"""Every command of the README is run, in its order, in one folder."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_blip import saved
from support_diffusion import MARKS
from support_docs import ROOT
from support_hub import taken_for_the_hub
from support_llm import make_model
from support_outputs import make_outputs
from support_pages import (
    AS_IT_STANDS,
    DEMO_MODELS,
    DRAWN,
    NOT_RUN,
    SERVED,
    TRAINED,
    demo_site,
    run_page,
)
from transformers import BlipForQuestionAnswering

Surd = Callable[..., Any]

pytestmark = MARKS

WORDS = {
    "meta-llama/Llama-2-13b-hf": "./tiny-llm",
    "--layer 39": "--layer 3",
    '"red dress"': '"red"',
}


def swaps() -> dict[str, str]:
    """What each command of the README is run as."""
    run, small = "my-data/adapter/run", "--set sources.0.limit=60"
    judged = "--seeds 1 --limit 2 --vqa ./tiny-vqa --clip demo:clip"
    return {
        r"make \w+|pip install .*|export \w+=.*": NOT_RUN,  # they make the place tests run in
        r"surd build folder -o my-images .*": rf"\g<0> {DEMO_MODELS}",
        r"surd (report|filter|edit|publish|export) my-images.*": AS_IT_STANDS,
        r"surd build civitai -o my-data": rf"\g<0> {small} {demo_site(60)} {DEMO_MODELS}",
        r"surd doctor|surd filter my-data --suggest": AS_IT_STANDS,
        r"(surd filter my-data --clip-threshold 0\.28 --min-side) 512": r"\1 64",
        r"surd (publish|status) my-data": AS_IT_STANDS,
        r"surd push my-data --repo me/my-data( --private)?": AS_IT_STANDS,
        r'surd inspect my-data "red"': AS_IT_STANDS,
        r"(surd view my-images) --open": rf"{SERVED}\1 --port 0",
        r"surd embed-llm my-data --model \./tiny-llm --layer 3": AS_IT_STANDS,
        r"surd train-adapter my-data --preset paper --llm .*": rf"\g<0> {TRAINED}",
        rf"surd generate --adapter {run} .*": rf"\g<0> {DRAWN}",
        rf"surd evaluate {run} --prompts paper": rf"\g<0> {DRAWN} {judged}",
    }


def test_every_command_of_the_readme_runs(
    surd: Surd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    make_model(tmp_path / "tiny-llm")
    saved(tmp_path / "tiny-vqa", BlipForQuestionAnswering, window=64)
    make_outputs(tmp_path / "outputs", 12)
    with taken_for_the_hub(monkeypatch, tmp_path) as hub:
        said = run_page(ROOT / "README.md", surd, words=WORDS, swaps=swaps())
        assert hub.files("datasets/me/my-data").keys() >= {"README.md", "croissant.json"}
    assert all(said[command] for command in said if command.startswith("surd"))


def test_make_demo_runs(surd: Surd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each of its commands on a smaller world, with a smaller language model."""
    monkeypatch.chdir(tmp_path)
    make_model(tmp_path / "tiny-llm")
    told = subprocess.run(
        ["make", "-n", "demo", "BIN="], cwd=ROOT, check=True, capture_output=True, text=True
    ).stdout
    page = tmp_path / "Makefile.md"
    page.write_text("```sh\n" + re.sub(r"^/surd", "surd", told, flags=re.MULTILINE) + "```\n")
    world = "--set demo_site.pictures=60 --set part_size=30 --set caption.candidates=2"
    said = run_page(
        page,
        surd,
        words={"--steps 12": "--steps 2"},
        swaps={
            r"(?!surd ).*": NOT_RUN,  # the virtual environment
            r"surd build demo -o surd-demo": rf"\g<0> {world} {demo_site(60)}",
            r"surd embed-llm surd-demo": r"\g<0> --model ./tiny-llm --layer 3",
            r"surd train-adapter surd-demo": rf"\g<0> --llm ./tiny-llm --layer 3 {TRAINED}",
            r"surd evaluate surd-demo/adapter/run .*": r"\g<0> --limit 2",
            r"surd generate .*": AS_IT_STANDS,
            r"surd (status|inspect|report) surd-demo.*": AS_IT_STANDS,
        },
    )
    assert len([command for command in said if command.startswith("surd")]) >= 6
    assert len(list((tmp_path / "surd-demo" / "pictures").glob("*.png"))) == 2


def test_a_new_command_of_the_readme_has_to_be_thought_about(
    surd: Surd, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    page = tmp_path / "README.md"
    page.write_text("# A page\n\n```sh\nmake demo\nsurd sing my-data  # a song\n```\n")
    with pytest.raises(pytest.fail.Exception, match=r"README.md:5: surd sing my-data\nno swap"):
        run_page(page, surd, words=WORDS, swaps=swaps())


def test_a_command_that_fails_is_named_with_its_line(surd: Surd, tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text(f"```sh\nsurd status {tmp_path}/nowhere\n```\n")
    with pytest.raises(AssertionError, match=r"README.md:2: surd status"):
        run_page(page, surd, words={}, swaps={r"surd .*": AS_IT_STANDS})
