"""Looking at an adapter while it is trained changes nothing, and is told everywhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from support_diffusion import MARKS
from support_training import LOOK, command, same

from surd.evaluate.prompt import limited
from surd.evaluate.prompt_sets import load_prompts

Surd = Callable[..., Any]

pytestmark = MARKS


def test_a_run_that_is_looked_at_ends_with_the_same_weights(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    blind = command(workspace, diffusion, tmp_path / "blind", 3, accumulate=1, ema=0.9)
    assert surd(*blind, "-q").code == 0
    run = tmp_path / "run"
    told = command(workspace, diffusion, run, 3, **LOOK, ema=0.9)
    ran = surd(*told, "-q")
    assert ran.code == 0, ran.err
    assert same(tmp_path / "blind", run)
    names = ["000-0.png", "000-1.png", "001-0.png", "001-1.png"]
    for place in ("base", "step-000002", "step-000003"):
        assert sorted(p.name for p in (run / "validation" / place).iterdir()) == names
    first, *rest = map(json.loads, (run / "validation.jsonl").open())
    assert first["step"] == 0 and [line["step"] for line in rest] == [2, 3]
    assert all(line["pictures"] == 4 for line in [first, *rest])
    card = (run / "README.md").read_text()
    assert "](validation.png)" in card and "1. a red cup\n2. two cups, blue\n" in card
    assert "| step | pictures |" in card
    with Image.open(run / "validation.png") as grid:
        assert grid.size == (3 * 16, 2 * 16 + 20)
        cell = np.asarray(grid.crop((32, 20, 48, 36)))
    with Image.open(run / "validation" / "step-000003" / "000-0.png") as picture:
        assert np.array_equal(cell, np.asarray(picture))
    assert "validation" not in (tmp_path / "blind" / "README.md").read_text().split("| setting")[0]
    drawn = {p: (p.stat().st_mtime_ns, cv2.imread(p)) for p in run.rglob("validation/*/*.png")}
    lost = run / "validation" / "step-000003" / "001-1.png"
    for path in (lost, run / "adapter_model.safetensors"):
        path.unlink()
    log = run / "validation.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:2]))  # as if killed there
    assert surd(*told, "-q").code == 0
    assert same(tmp_path / "blind", run)
    again = {p: (p.stat().st_mtime_ns, cv2.imread(p)) for p in run.rglob("validation/*/*.png")}
    assert {p for p in drawn if drawn[p][0] != again[p][0]} == {lost}
    assert np.abs(again[lost][1].astype(int) - drawn[lost][1]).max() <= 1  # in a smaller batch
    assert [json.loads(line)["step"] for line in log.open()] == [0, 2, 3]


def test_tensorboard_is_told_the_losses_and_shown_the_pictures(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    more = {**LOOK, "report_to": "tensorboard"}
    ran = surd(*command(workspace, diffusion, tmp_path / "run", 2, **more), "-q")
    assert ran.code == 0, ran.err
    found = [event for path in tmp_path.rglob("events.out.*") for event in events(path)]
    values = {(event.step, value.tag): value for event in found for value in event.summary.value}
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").open()]
    for line in log:
        for name in ("loss", "denoising", "learning_rate"):
            told = values[line["step"], name].simple_value
            assert told == pytest.approx(line[name], rel=1e-5)
    shown = [value.image for value in values.values() if value.HasField("image")]
    assert len(shown) == 4 and all(image.height == 16 for image in shown)


def events(path: Path) -> Iterator[Any]:
    """Of a TensorBoard file: length, its checksum, event, its checksum."""
    from tensorboardX.proto.event_pb2 import Event

    data = path.read_bytes()
    while data:
        end = 12 + int.from_bytes(data[:8], "little")
        yield Event.FromString(data[12:end])
        data = data[end + 4 :]


def test_a_set_of_the_demo_is_judged(
    surd: Surd,
    workspace: Path,
    diffusion: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "surd.training.validation.load_prompts", lambda name: limited(load_prompts(name), 2)
    )
    more = {**LOOK, "validation_prompts": "[demo:plain]"}
    ran = surd(*command(workspace, diffusion, tmp_path / "run", 1, **more), "-q")
    assert ran.code == 0, ran.err
    for line in map(json.loads, (tmp_path / "run" / "validation.jsonl").open()):
        assert line["pictures"] == 4 and 0 <= line["all right"] <= line["color"] <= 1
    prompts = json.loads((tmp_path / "run" / "validation" / "prompts.json").read_text())
    assert len(prompts) == 2 and prompts[0] != prompts[1]
