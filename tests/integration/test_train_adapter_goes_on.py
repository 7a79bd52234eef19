"""Training that goes on: with more steps, from another adapter, from the checkpoint before."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support_diffusion import MARKS, make_pipeline
from support_training import SMALL, command, prepared, same, weights

from surd.build import dataset_state
from surd.build.dataset_state import DatasetState
from surd.recipe.train_adapter import TrainAdapterParams
from surd.training.loop import train

Surd = Callable[..., Any]

pytestmark = MARKS


def steps(run: Path) -> list[int]:
    return [json.loads(line)["step"] for line in (run / "log.jsonl").open()]


def test_with_more_steps_a_run_goes_on_and_ends_as_one_that_had_them_from_the_start(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    more = {"ema": 0.9, "schedule": "constant_with_warmup", "warmup_steps": 3}
    assert surd(*command(workspace, diffusion, tmp_path / "whole", 7, **more), "-q").code == 0
    run = tmp_path / "run"
    assert surd(*command(workspace, diffusion, run, 4, **more), "-q").code == 0
    first = (run / "checkpoint-000004").stat().st_mtime_ns
    for name in ("evaluation", "evaluation-1"):
        (run / f"{name}.json").write_text("{}")
    with (run / "log.jsonl").open("ab") as log:  # as a machine that lost power may leave it
        log.write(b'{"a": 1}\n\0\xff}\n')
    ran = surd(*command(workspace, diffusion, run, 7, **more))
    assert ran.code == 0 and "7 steps on 30 samples" in ran.out
    assert (run / "checkpoint-000004").stat().st_mtime_ns == first, "no step was taken twice"
    assert same(tmp_path / "whole", run) and steps(run) == list(range(1, 8))
    assert not list(run.glob("evaluation*")), "they were of other weights"
    assert "already trained" in surd(*command(workspace, diffusion, run, 7, **more)).out
    ran = surd(*command(workspace, diffusion, run, 4, **more))
    assert ran.code == 2 and "differs in steps (7, now 4)" in ran.err


def test_a_card_that_somebody_edited_stays_and_is_told(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = tmp_path / "run"
    card = run / "README.md"
    assert surd(*command(workspace, diffusion, run, 1), "-q").code == 0
    assert (run / ".surd-run").is_file()
    assert surd(*command(workspace, diffusion, run, 2), "-q").code == 0
    assert caplog.text == "" and "| `steps` | `2` |" in card.read_text()
    own = card.read_text().replace("# A SUR-adapter", "# My adapter")
    card.write_text(own)
    for more in ([], ["--resume", "none"]):
        caplog.clear()
        assert surd(*command(workspace, diffusion, run, 3), "-q", *more).code == 0
        assert f"{card}: kept, since it was edited" in caplog.text
        assert card.read_text() == own
    card.unlink()
    assert surd(*command(workspace, diffusion, run, 3), "-q").code == 0
    assert "| `steps` | `3` |" in card.read_text()


def test_a_dataset_that_would_be_published_otherwise_today_is_told(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    told = "its dataset is not what today's verdicts, prompts and settings give"
    stale = DatasetState("stale", told)
    monkeypatch.setattr(dataset_state, "dataset_state", lambda _: stale)
    assert surd(*command(workspace, diffusion, tmp_path / "run", 1), "-q").code == 0
    assert caplog.messages == [f"{told}; until then it is taken as it is"]


def test_killed_while_it_goes_on_it_is_not_taken_for_done(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    assert surd(*command(workspace, diffusion, run, 2), "-q").code == 0

    def killed(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("surd.training.loop._step", killed)
        assert surd(*command(workspace, diffusion, run, 4), "-q").code == 130
    assert weights(run), "the adapter of before"
    assert surd(*command(workspace, diffusion, run, 4), "-q").code == 0
    assert steps(run) == [1, 2, 3, 4]
    assert json.loads((run / "adapter_config.json").read_text())["step"] == 4


def test_a_schedule_that_has_ended_does_not_go_on(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    assert surd(*command(workspace, diffusion, run, 2, schedule="cosine"), "-q").code == 0
    ran = surd(*command(workspace, diffusion, run, 4, schedule="cosine"))
    assert ran.code == 2 and ran.err.count("\n") == 1
    assert f"cosine schedule ends at step 2; start another run from it with --from {run}" in ran.err


def test_another_run_starts_from_the_weights_of_an_adapter(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    first, run = tmp_path / "first", tmp_path / "run"
    assert surd(*command(workspace, diffusion, first, 3, learning_rate=1e-2), "-q").code == 0
    told = command(workspace, diffusion, run, 1, learning_rate=1e-9)
    ran = surd(*told, "--from", first, "-q")
    assert ran.code == 0, ran.err
    theirs, ours = weights(first), weights(run)
    for name, value in ours.items():
        torch.testing.assert_close(value, theirs[name], atol=1e-6, rtol=1e-6)
    assert theirs["out.weight"].abs().max() > 1e-3 and steps(run) == [1]
    assert "already trained" in surd(*told, "--from", first).out
    for more, says in (
        ((), "differs in the adapter it starts from (--from)"),
        (("--from", run), "is the run's own folder"),
        (("--from", tmp_path), "no adapter here"),
        (("--from", first, "--set", "train_adapter.feed_forward=16"), "feed_forward=32"),
        (("--from", first, "--set", "train_adapter.adapter_weight=0.5"), "adapter_weight=0.1"),
    ):
        ran = surd(*told, *more)
        assert ran.code == 2 and says in ran.err and ran.err.count("\n") == 1
    make_pipeline(xl=True).save_pretrained(tmp_path / "wide")
    ran = surd(*command(workspace, str(tmp_path / "wide"), tmp_path / "xl", 1), "--from", first)
    assert ran.code == 2 and "expects text embeddings of width 32" in ran.err
    assert ran.err.count("\n") == 1 and not (tmp_path / "xl").exists()
    ran = surd(*told, "--from", first, "--resume", "none", "-q")
    assert ran.code == 0 and same(run, run)


@pytest.mark.parametrize("name", ["optimizer.bin", "model.safetensors", "scheduler.bin"])
def test_a_damaged_checkpoint_is_told_and_the_one_before_taken(
    surd: Surd,
    workspace: Path,
    diffusion: str,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
) -> None:
    run = tmp_path / "run"
    told = command(workspace, diffusion, run, 3, checkpoint_every=1)
    assert surd(*told, "-q").code == 0
    whole = weights(run)
    (run / "adapter_model.safetensors").unlink()
    path = run / "checkpoint-000003" / "state" / name
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert surd(*told, "-q").code == 0
    (line,) = caplog.messages
    assert "checkpoint-000003: damaged" in line and "\n" not in line
    assert all(torch.equal(whole[key], value) for key, value in weights(run).items())
    assert steps(run) == [1, 2, 3]
    for path in run.glob(f"checkpoint-*/state/{name}"):
        path.write_bytes(b"")
    (run / "adapter_model.safetensors").unlink()
    ran = surd(*told, "-q")
    assert ran.code == 2 and "none of its checkpoints can be read" in ran.err


def test_a_run_killed_before_its_oldest_checkpoint_went_leaves_no_more_than_others(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    told = command(workspace, diffusion, run, 3, checkpoint_every=1)
    assert surd(*told, "--set", "train_adapter.checkpoints_kept=3", "-q").code == 0
    (run / "adapter_model.safetensors").unlink()
    assert surd(*told, "--set", "train_adapter.checkpoints_kept=1", "-q").code == 0
    assert [path.name for path in run.glob("checkpoint-*")] == ["checkpoint-000003"]


@pytest.mark.parametrize(
    ("limit", "says"), [(20_000, "File too large; fix that"), (100_000, "[enforce fail")]
)
def test_a_disk_that_is_full_at_a_checkpoint_is_one_line(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path, limit: int, says: str
) -> None:
    run = tmp_path / "run"
    told = command(workspace, diffusion, run, 3, checkpoint_every=2)

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    assert surd(*command(workspace, diffusion, tmp_path / "other", 3), "-q").code == 0  # the cache
    ran = subprocess.run(
        [sys.executable, "-m", "surd", *told, "-q"],
        preexec_fn=limited,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 2 and ran.stderr.count("\n") == 1, ran.stderr[-3000:]
    assert f"{run}: cannot write checkpoint 2: {says}" in ran.stderr
    assert not [*run.rglob(".*.tmp")]
    assert surd(*told, "-q").code == 0
    assert same(run, tmp_path / "other")


def test_the_environment_does_not_change_how_many_batches_a_step_takes(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    params = TrainAdapterParams(**SMALL, steps=2)
    for name in ("plain", "other"):
        run = tmp_path / name
        run.mkdir()
        cache = tmp_path / "cache"
        data, taught, accelerator = prepared(workspace, make_pipeline(), cache, params, run)
        train(data, taught, params, run, accelerator=accelerator)
        monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "7")
    assert same(tmp_path / "plain", tmp_path / "other")
    shutil.rmtree(tmp_path / "cache")
