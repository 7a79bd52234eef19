"""The loss on the validation split: a share of the base model's, and when to stop by it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import support_publish
import torch
from support_diffusion import MARKS, make_pipeline
from support_training import SMALL, command, prepared, same, weights

from surd import adapter as adapters
from surd.adapter.files import read_config
from surd.dataset.publish.run import publish
from surd.dataset.published import open_published
from surd.recipe.publish import PublishParams
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training import held_out as module
from surd.training.early_stopping import Stopping
from surd.training.held_out import chosen, held_out
from surd.training.loop import Student, train
from surd.training.samples import samples_of
from surd.training.setup import config_of

Surd = Callable[..., Any]

pytestmark = MARKS

ATTENTION = {
    **{"denoising_weight": 0, "llm_weight": 0, "prompt_weight": 0, "attention_weight": 1},
    **{"blend": "residual", "network": "encoder", "accumulate": 1},
}


@pytest.fixture(scope="module")
def split(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Published, a third of it for validation."""
    folder = tmp_path_factory.mktemp("data") / "w"
    workspace = support_publish.make_workspace(folder, [support_publish.samples(30)])
    publish(workspace, PublishParams(validation=0.34))
    return folder


def log_of(run: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / "log.jsonl").open()]


def test_an_adapter_that_changes_nothing_has_the_loss_of_the_base_model(
    split: Path, tmp_path: Path
) -> None:
    own = {**ATTENTION, "prompt_weight": 0.5}
    params = TrainAdapterParams(**{**SMALL, **own})
    dataset = open_published(str(split))
    unseen = chosen(samples_of(str(split), dataset, "validation", params), 0)
    assert 5 < len(unseen) == dataset.splits["validation"]
    data, taught, _ = prepared(split, make_pipeline(), None, params, tmp_path)
    student = Student(config_of(params, 32), None, "frozen")
    found = held_out(unseen, data, params, taught.probes, student, "cpu")
    assert found is not None
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    shares = dict.fromkeys(["validation_loss", "validation_attention", "validation_prompt"], 1.0)
    assert found.measured(student, "cpu") == pytest.approx(shares)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.nn.init.normal_(student.adapter.out.weight, std=0.5)
    worse = found.measured(student, "cpu")
    assert worse["validation_attention"] > 1.01 and worse == found.measured(student, "cpu")
    aims = {sample.id for sample in unseen} & {sample.id for sample in data.samples}
    assert not aims


def test_it_is_logged_and_plotted_and_changes_nothing_of_the_training(
    surd: Surd, split: Path, diffusion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = {**ATTENTION, "validate_every": 2, "ema": 0.5, "report_to": "tensorboard"}
    run = tmp_path / "run"
    assert surd(*command(split, diffusion, run, 5, **more), "-q").code == 0
    log = log_of(run)
    assert [line["step"] for line in log if "validation_loss" in line] == [2, 4, 5]
    assert all(0 < line["validation_loss"] < 5 for line in log if line["step"] in (2, 4, 5))
    assert "validation loss" in (run / "loss.svg").read_text()
    events = b"".join(path.read_bytes() for path in run.rglob("events.out.*"))
    assert b"validation_loss" in events
    page = surd("report", run, "-o", tmp_path / "page.html")
    assert page.code == 0, page.err
    text = (tmp_path / "page.html").read_text()
    assert "share of what it is without an adapter" in text and "is not finite" not in text
    monkeypatch.setattr("surd.training.run._unseen", lambda *_: [])
    assert surd(*command(split, diffusion, tmp_path / "blind", 5, **more), "-q").code == 0
    assert same(run, tmp_path / "blind")
    for line, blind in zip(log, log_of(tmp_path / "blind"), strict=True):
        line.pop("validation_loss", None)
        assert line == blind


def test_training_stops_when_it_no_longer_helps_and_keeps_the_best(
    surd: Surd, split: Path, diffusion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses = {1: 0.9, 2: 0.7, 3: 0.8, 4: 0.75, 5: 0.1}
    steps = iter([1, 2, 3, 4, 3, 4])
    monkeypatch.setattr(
        module.HeldOut, "measured", lambda *_: {"validation_loss": losses[next(steps)]}
    )
    more = {**ATTENTION, "validate_every": 1, "early_stopping": 2, "checkpoint_every": 2}
    run = tmp_path / "run"
    told = command(split, diffusion, run, 9, **more)
    assert "4 steps on" in surd(*told, "-q").out
    assert [line["step"] for line in log_of(run)] == [1, 2, 3, 4]
    config = read_config(run)
    assert (config["step"], config["stopped"], config["validation_loss"]) == (2, 4, 0.7)
    after_two = weights(run / "checkpoint-000002")
    assert all(torch.equal(value, after_two[name]) for name, value in weights(run).items())
    assert adapters.load(run).config.network == "encoder"
    assert "its loss is 70% of\nthat without" in (run / "README.md").read_text()
    assert "already trained with these settings" in surd(*told).out
    shutil.copytree(run, tmp_path / "killed")
    (tmp_path / "killed" / "adapter_model.safetensors").unlink()
    shutil.rmtree(tmp_path / "killed" / "checkpoint-000004")
    again = command(split, diffusion, tmp_path / "killed", 9, **more)
    assert surd(*again, "-q").code == 0
    assert same(run, tmp_path / "killed") and len(log_of(tmp_path / "killed")) == 4


def test_a_run_that_had_stopped_when_it_was_killed_takes_no_further_step(tmp_path: Path) -> None:
    lines = [{"step": n, "validation_loss": v} for n, v in enumerate((0.5, 0.6, 0.7), 1)]
    (tmp_path / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    assert Stopping(tmp_path, 2).is_over() and not Stopping(tmp_path, 3).is_over()
    assert not Stopping(tmp_path, None).is_over()
    going = Stopping(tmp_path, 2)
    assert going.note(4, 0.4) and not going.is_over() and not going.note(5, 0.45)


def test_without_a_loss_or_a_split_to_stop_by_it_is_one_line(
    surd: Surd, split: Path, diffusion: str, tmp_path: Path
) -> None:
    alone = {"llm_weight": 0, "prompt_weight": 0, "early_stopping": 2}
    ran = surd(*command(split, diffusion, tmp_path / "run", 2, **alone))
    assert ran.code == 2 and "the denoising loss alone has no validation loss" in ran.err
    whole = support_publish.make_workspace(tmp_path / "w", [support_publish.samples(4)])
    publish(whole, PublishParams(validation=0, test=0))
    told = command(tmp_path / "w", diffusion, tmp_path / "run", 2, **ATTENTION, early_stopping=2)
    ran = surd(*told)
    assert ran.code == 2 and "early_stopping needs a validation split" in ran.err
    assert ran.err.count("\n") == 1 and not (tmp_path / "run").exists()


def test_the_loop_trains_without_unseen_samples_too(split: Path, tmp_path: Path) -> None:
    params = TrainAdapterParams(**{**SMALL, **ATTENTION, "steps": 1})
    data, taught, accelerator = prepared(split, make_pipeline(), None, params, tmp_path)
    train(data, taught, params, tmp_path, accelerator=accelerator)
    assert "validation_loss" not in log_of(tmp_path)[0]
