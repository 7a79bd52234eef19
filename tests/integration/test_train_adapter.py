"""``surd train-adapter`` with tiny models: resumption, kinds of pipelines, several processes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from support_diffusion import MARKS, make_pipeline
from support_training import LOOK, command, same, weights

from surd import adapter as adapters
from surd.dataset.published import batches, open_published

Surd = Callable[..., Any]

pytestmark = MARKS


@pytest.mark.parametrize("more", [{}, {"ema": 0.9, "schedule": "cosine", "projection": "learned"}])
def test_killed_and_resumed_it_ends_with_the_same_weights(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path, more: dict[str, Any]
) -> None:
    more = {**more, "checkpoint_every": 5}
    whole = command(workspace, diffusion, tmp_path / "whole", 12, **more)
    assert surd(*whole, "-q").code == 0
    cut = command(workspace, diffusion, tmp_path / "cut", 12, **more)
    log = tmp_path / "cut" / "log.jsonl"
    alike = {**os.environ, "OMP_NUM_THREADS": "1"}  # sums depend on the number of threads
    with subprocess.Popen(
        [sys.executable, "-m", "surd", *cut, "-q"], stderr=subprocess.DEVNULL, env=alike
    ) as process:
        while process.poll() is None:
            if log.is_file() and len(log.read_text().splitlines()) >= 7:
                process.kill()
            time.sleep(0.002)
    assert not (tmp_path / "cut" / "adapter_model.safetensors").exists()
    assert (tmp_path / "cut" / "checkpoint-000005").is_dir()
    assert surd(*cut, "-q").code == 0
    assert same(tmp_path / "whole", tmp_path / "cut")
    lines = log.read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == list(range(1, 13))
    assert lines == (tmp_path / "whole" / "log.jsonl").read_text().splitlines()
    told = surd(*cut)
    assert told.code == 0 and "already trained with these settings" in told.out
    assert told.out.endswith(f"next: surd evaluate {tmp_path / 'cut'}\n")


def test_another_seed_gives_another_adapter_and_the_same_seed_the_same(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run = command(workspace, diffusion, tmp_path / name, 2, seed=seed)
        assert surd(*run, "-q").code == 0
    assert same(tmp_path / "a", tmp_path / "b") and not same(tmp_path / "a", tmp_path / "c")
    loaded = adapters.load(tmp_path / "a")
    assert loaded.config.width == 32 and loaded.config.weight == 0.1
    card = (tmp_path / "a" / "README.md").read_text()
    assert "| `seed` | `1` |" in card and "tiny-llm" in card
    (tmp_path / "a" / "README.md").unlink()  # killed before it was written
    again = surd(*command(workspace, diffusion, tmp_path / "a", 2, seed=1))
    assert "already trained with these settings" in again.out
    assert (tmp_path / "a" / "README.md").read_text() == card
    drawn = "".join(ElementTree.parse(tmp_path / "a" / "loss.svg").getroot().itertext())
    first = json.loads((tmp_path / "a" / "log.jsonl").read_text().splitlines()[0])
    assert len(first) > 3 and all(name.replace("_", " ") in drawn for name in first)


@pytest.mark.parametrize("kind", ["sd1", "sd2", "xl"])
def test_every_kind_of_pipeline_is_trained(
    surd: Surd, workspace: Path, tmp_path: Path, kind: str
) -> None:
    pipeline = make_pipeline("v_prediction" if kind == "sd2" else "epsilon", xl=kind == "xl")
    pipeline.save_pretrained(tmp_path / kind)
    more = {"snr_gamma": 5.0, "noise_offset": 0.1}
    run = command(workspace, str(tmp_path / kind), tmp_path / "run", 3, **more)
    ran = surd(*run, "-q", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["steps"] == 3 and ran.json["samples"] > 20
    assert adapters.load(tmp_path / "run").config.width == (64 if kind == "xl" else 32)
    moved = weights(tmp_path / "run")["out.weight"]
    assert moved.abs().max() > 0


def test_two_processes_share_the_work_and_leave_one_adapter(
    workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    shutil.copytree(workspace, tmp_path / "w", ignore=shutil.ignore_patterns("adapter"))
    run = tmp_path / "run"
    told = command(tmp_path / "w", diffusion, run, 3, **LOOK, ema=0.9)
    script = Path(__file__).parent.parent / "two_processes.py"
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    (tmp_path / "encoded").mkdir()
    alike = {"OMP_NUM_THREADS": "1", "ACCELERATE_USE_CPU": "true", "ENCODED": tmp_path / "encoded"}
    line = [sys.executable, *launch, str(script), *told, "--json"]
    ran = subprocess.run(
        line, env={**os.environ, **alike}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert json.loads(ran.stdout)["steps"] == 3  # said once
    first, second = ((tmp_path / "encoded" / rank).read_text().split() for rank in "01")
    tables = batches(open_published(str(workspace)), "train", ["id"])
    ids = [id_ for table in tables for id_ in table["id"].to_pylist()]
    assert first and second and sorted(first + second) == sorted(ids)
    assert [json.loads(one)["step"] for one in (run / "log.jsonl").open()] == [1, 2, 3]
    states = run / "checkpoint-000002" / "state"
    assert len([*states.glob("random_states_*")]) == 2
    assert len([*run.glob("validation/*/*.png")]) == 3 * 4
    assert [json.loads(one)["step"] for one in (run / "validation.jsonl").open()] == [0, 2, 3]
    assert weights(run)["out.weight"].any() and (run / "README.md").is_file()
    assert not [*tmp_path.rglob(".*.tmp")]


def test_what_a_killed_run_left_half_done_goes(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    shutil.copytree(workspace, tmp_path / "w", ignore=shutil.ignore_patterns("adapter"))
    told = command(tmp_path / "w", diffusion, tmp_path / "run", 1)
    assert surd(*told, "-q").code == 0
    (cache,) = (tmp_path / "w" / "adapter" / "cache").glob("latents-*")
    names = (".part-00000.safetensors.0a1b2c3d.tmp", ".settings.json.0a1b2c3d.tmp")
    half = [cache / names[0], tmp_path / "run" / names[1]]
    for path in half:
        path.touch()
    (tmp_path / "run" / ".checkpoint-5.tmp" / "state").mkdir(parents=True)
    (tmp_path / "run" / "adapter_model.safetensors").unlink()
    assert surd(*told, "-q").code == 0
    assert not [*tmp_path.rglob(".*.tmp")]


def files(folder: Path) -> dict[str, bytes]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


@pytest.mark.parametrize("resume", ["latest", "none"])
@pytest.mark.parametrize(
    ("mine", "named"),
    [
        ({"thesis.tex": "years", ".draft.tmp": "half"}, ".draft.tmp"),
        ({"settings.json": '{"editor.fontSize": 14}', "thesis.tex": "years"}, "settings.json"),
        ({"settings.json": "// {}"}, "settings.json: cannot be read"),
        ({"adapter_config.json": '{"peft_type": "LORA"}', "adapter_model.safetensors": ""}, "ada"),
        ({"checkpoint-500/optimizer.bin": ""}, "checkpoint-500"),
    ],
)
def test_a_folder_of_somebody_else_is_refused_in_every_mode_and_left_alone(
    surd: Surd,
    workspace: Path,
    diffusion: str,
    tmp_path: Path,
    mine: dict[str, str],
    named: str,
    resume: str,
) -> None:
    for name, text in mine.items():
        (tmp_path / "run" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "run" / name).write_text(text)
    before = files(tmp_path / "run")
    ran = surd(*command(workspace, diffusion, tmp_path / "run", 1), "--resume", resume, "-q")
    assert ran.code == 2 and named in ran.err and "--output" in ran.err
    assert ran.err.count("\n") == 1
    assert files(tmp_path / "run") == before


def test_begun_anew_a_run_loses_what_surd_wrote_and_nothing_else(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert surd(*command(workspace, diffusion, run, 3, **LOOK), "-q").code == 0
    assert (run / "checkpoint-000002").is_dir() and [*run.glob("validation/step-*/*.png")]
    mine = (".draft.tmp", "thesis.tex", "validation/base/holiday.png", "checkpoint-9/weights.bin")
    for name in mine:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("mine")
    once = command(workspace, diffusion, run, 1)
    assert surd(*once, "--resume", "none", "-q").code == 0
    left = {name: data for name, data in files(run).items() if "checkpoint-000001/" not in name}
    assert all(left.pop(name) == b"mine" for name in mine)
    assert sorted(left) == sorted(
        {"adapter_config.json", "adapter_model.safetensors", "settings.json", "log.jsonl"}
        | {"README.md", "loss.svg", ".surd-run"}
    )
    assert (run / "log.jsonl").read_text().count("\n") == 1
    assert "already trained with these settings" in surd(*once).out


def test_a_run_of_the_version_before_goes_on_where_it_stopped(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    told = command(workspace, diffusion, run, 3, checkpoint_every=2)
    assert surd(*told, "-q").code == 0
    whole = weights(run)
    settings = json.loads((run / "settings.json").read_text())
    assert settings.pop("format") == "surd-run-1"
    (run / "settings.json").write_text(json.dumps({**settings, "distance": "mse"}))
    ran = surd(*told)
    assert ran.code == 2 and "that differs in distance (mse, now kl)" in ran.err
    gone = {"distance": "kl", "depth": 2, "validation_clip": "demo:clip"}
    (run / "settings.json").write_text(json.dumps({**settings, **gone}))
    assert "already trained with these settings" in surd(*told).out
    (run / "adapter_model.safetensors").unlink()
    first = (run / "checkpoint-000002").stat().st_mtime_ns
    assert surd(*told, "-q").code == 0
    assert (run / "checkpoint-000002").stat().st_mtime_ns == first
    assert all(torch.equal(whole[name], value) for name, value in weights(run).items())


def test_whoever_may_read_one_file_of_a_run_may_read_all(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    shutil.copytree(workspace, tmp_path / "w", ignore=shutil.ignore_patterns("adapter"))
    run = tmp_path / "w" / "adapter" / "run"
    assert surd(*command(tmp_path / "w", diffusion, run, 2, checkpoint_every=1), "-q").code == 0
    (run / "mine").touch()
    paths = [path for path in (tmp_path / "w" / "adapter").rglob("*") if path.is_file()]
    assert {path.name for path in paths} > {"adapter_model.safetensors", "model.safetensors"}
    assert {path.stat().st_mode for path in paths} == {(run / "mine").stat().st_mode}


@pytest.mark.parametrize(
    "told",
    [
        ("train-adapter", "s3://bucket/data"),
        ("train-adapter", "DATA", "-o", "s3://bucket/run"),
        ("ablate", "gs://bucket/data", "--vary", "layer=1,2"),
        ("evaluate", "hf://models/me/run"),
        ("generate", "a cat", "--adapter", "s3://bucket/run"),
        ("generate", "a cat", "--adapter", "DATA", "-o", "s3://bucket/pictures"),
        ("export", "DATA", "csv", "-o", "s3://bucket/out"),
        ("export", "DATA", "prompt2vec", "-o", "s3://b/o.pt", "--model=tiny-llm", "--layer=3"),
    ],
)
def test_an_address_where_only_a_path_will_do_is_one_line_and_makes_no_folder(
    surd: Surd, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: tuple[Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = surd(*(str(workspace) if one == "DATA" else one for one in told))
    assert ran.code == 2 and "must be a local path" in ran.err
    assert ran.err.count("\n") == 1 and not [*tmp_path.iterdir()]


@pytest.mark.filterwarnings("ignore::UserWarning")  # torch's compiler has some for itself
@pytest.mark.parametrize("how", ["gradient_checkpointing", "compile"])
def test_ways_to_save_memory_or_time_change_nothing_but_rounding(
    surd: Surd,
    workspace: Path,
    diffusion: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    # all of torch.compile but the C++ it would write, which takes minutes to be compiled
    monkeypatch.setattr("torch.compile", partial(torch.compile, backend="eager"))
    for name, more in (("plain", {}), ("other", {how: True})):
        ran = surd(*command(workspace, diffusion, tmp_path / name, 2, accumulate=1, **more), "-q")
        assert ran.code == 0, ran.err
    lines = [[*map(json.loads, (tmp_path / n / "log.jsonl").open())] for n in ("plain", "other")]
    for one, other in zip(*lines, strict=True):
        assert one == pytest.approx(other, rel=1e-3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--steps", "1"], "that differs in steps (2, now 1)"),
        (["--llm", "other"], "no vectors of other"),
        (["--layer", "9"], "no vectors of tiny-llm, layer 9"),
        (["--diffusion", "./nowhere"], "./nowhere: no such folder"),
        (["--set", "train_adapter.learning_rate=-1"], "learning_rate"),
        (["--set", "train_adapter.heds=4"], "did you mean heads?"),
        (
            ["--set", "train_adapter.report_to=nowhere"],
            "'nowhere' is not a tracker; trackers: none",
        ),
        (["--set", "train_adapter.report_to=aim"], "aim is not installed; pip install aim"),
        (["--set", "train_adapter.adam_8bit=true"], "needs bitsandbytes"),
        (["--set", "train_adapter.heads=5"], "5 does not divide 32"),
        (["--set", "train_adapter.resolution=17"], "17 is not divisible by 2"),
        (["--set", "train_adapter.precision=fp16"], "fp16 needs a GPU"),
        (["--set", "train_adapter.validation_prompts=[demo:other]"], "no such prompt set"),
    ],
)
def test_bad_input_is_one_line(
    surd: Surd,
    workspace: Path,
    diffusion: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    says: str,
) -> None:
    monkeypatch.setattr("surd.training.checks.find_spec", lambda name: None)
    monkeypatch.setattr("accelerate.tracking.get_available_trackers", lambda: [])
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    run = command(workspace, diffusion, tmp_path / "run", 2)
    if "--steps" in arguments:
        assert surd(*run, "-q").code == 0
    ran = surd(*run, *arguments)
    assert ran.code == 2 and says in ran.err and "Traceback" not in ran.err
    assert ran.err.count("\n") == 1
    assert (tmp_path / "run").exists() == ("--steps" in arguments)


def test_a_workspace_without_a_dataset_says_what_to_run(surd: Surd, tmp_path: Path) -> None:
    from support_llm import PROMPTS, make_workspace

    make_workspace(tmp_path / "w", list(PROMPTS), [True] * 5)
    ran = surd("train-adapter", tmp_path / "w", "--diffusion", "demo:diffusion")
    assert ran.code == 2 and "surd publish" in ran.err
