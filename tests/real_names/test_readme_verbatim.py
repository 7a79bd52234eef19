"""The README's way from Civitai to a trained adapter, typed as it stands there.

No model is another one, no precision is set. The hub and Civitai are on loopback, which the
environment says. The environment also says how often two things are done, 5,000 steps of training
and 2,400 pictures of an evaluation, which the long form of the test does to the last.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support_docs import ROOT
from support_hub import Hub
from support_llm import make_workspace

from real_names.civitai import serving_civitai
from real_names.hub import surroundings
from real_names.shell import Forked, Shell

FEW = {
    "SURD_TRAIN_ADAPTER_STEPS": "3",
    "SURD_EVALUATE_LIMIT": "1",
    "SURD_EVALUATE_SEEDS": "1",
}
DEVICES = {"cpu": "", "gpu": "bf16", "older gpu": "fp16"}
"""What ``auto`` is there; on the CPU that this is, nothing is said."""


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "device",
    ["gpu", *(pytest.param(name, marks=pytest.mark.long) for name in ("cpu", "older gpu"))],
)
def test_the_readmes_commands_run_as_they_stand(
    device: str, hub: Hub, home: Path, forked: Forked, tmp_path: Path
) -> None:
    environment = surroundings(hub, home) | FEW | {"SURD_PRETEND_GPU_DTYPE": DEVICES[device]}
    types_it_all(hub, Shell(tmp_path, environment, forked))


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_the_readmes_commands_run_as_they_stand_to_the_last_step(hub: Hub, tmp_path: Path) -> None:
    types_it_all(hub, Shell(tmp_path, surroundings(hub, tmp_path / "hf-home")))
    log = (tmp_path / "my-data" / "adapter" / "run" / "log.jsonl").read_text().splitlines()
    assert json.loads(log[-1])["step"] == 5000


def types_it_all(hub: Hub, shell: Shell) -> None:
    with serving_civitai(24) as site:
        shell.environment |= {"CIVITAI_ENDPOINT": site.url}
        printed = shell.types(ROOT / "README.md", "## From Civitai to a trained adapter")
    assert sum(command.startswith("surd ") for command in printed) >= 12
    assert hub.files("datasets/me/my-data").keys() >= {"README.md", "croissant.json"}
    run = shell.folder / "my-data" / "adapter" / "run"
    assert (run / "evaluation.parquet").is_file()
    assert list((shell.folder / "pictures").glob("*.png"))


def test_a_gated_model_without_a_token_is_one_line(hub: Hub, tmp_path: Path) -> None:
    make_workspace(tmp_path / "my-data", ["two red cups"], [True])
    shell = Shell(tmp_path, surroundings(hub, tmp_path / "hf-home", token=None))
    name = "meta-llama/Llama-2-13b-hf"
    done = shell.tries(["surd", "embed-llm", "my-data", "--model", name, "--layer", "39"])
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"is gated: request access at {hub.url}/{name}, then set HF_TOKEN" in done.stderr
