"""``surd report`` of adapters that were trained, measured and compared by surd's own commands."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support_diffusion import MARKS
from support_training import LOOK, SMALL, command

from surd.report.runs.read import read_run

Surd = Callable[..., Any]
JUDGED = ("--prompts", "demo:plain", "--limit", 3, "--seeds", 2, "--steps", 2, "-q")

pytestmark = MARKS


def contents(page: str) -> list[str]:
    """The titles of a page's sections."""
    return re.findall(r'<a href="#[\w-]+"><bdi>([^<]*)</bdi></a>', page)


def test_a_run_is_reported_while_it_is_made_and_when_it_is_measured(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    told = command(workspace, diffusion, run, 3, **LOOK | {"report_to": "tensorboard"})
    assert surd(*told, "-q").code == 0
    found = read_run(run)
    assert found is not None and found.trained and found.step == 3
    assert found.samples and found.samples > 20 and found.seconds and found.seconds > 0
    ran = surd("report", run)
    assert ran.code == 0, ran.err
    page = (run / "report" / "index.html").read_text()
    assert contents(page) == ["Adapter: run", "Validation during training", "Losses"]
    assert page.count('<img src="data:') == 2 * 3
    ran = surd("evaluate", run, *JUDGED, "--clip", "demo:clip")
    assert ran.code == 0, ran.err
    assert ran.out.endswith(f"next: surd report {run}\n")
    assert surd("report", run).code == 0
    page = (run / "report" / "index.html").read_text()
    assert contents(page)[1:3] == ["Evaluation", "Before and after"]
    assert page.count('<img src="data:') == 2 * 3 + 2 * 3 * 2
    assert "Image analysis judges the demo" in page


def test_an_ablation_is_reported_with_its_workspace_and_each_of_its_runs(
    surd: Surd, workspace: Path, diffusion: str, tmp_path: Path
) -> None:
    shutil.copytree(workspace, tmp_path / "w", ignore=shutil.ignore_patterns("adapter"))
    settings = {**SMALL, "diffusion": diffusion, "llm": "tiny-llm", "layer": 3, "steps": 2}
    sets = [f"--set=train_adapter.{key}={value}" for key, value in settings.items()]
    vary = ("--vary", "adapter_weight=0.1,0.5")
    ran = surd("ablate", tmp_path / "w", *vary, *sets, *JUDGED, "--clip", "none")
    assert ran.code == 0, ran.err
    assert ran.out.endswith(f"next: surd report {tmp_path / 'w'}\n")
    assert surd("report", tmp_path / "w", "-q").code == 0
    page = (tmp_path / "w" / "report" / "index.html").read_text()
    assert contents(page)[-1] == "Adapters compared"
    one = tmp_path / "w" / "adapter" / "ablation" / "adapter_weight=0.1"
    assert surd("report", one).code == 0
    page = (one / "report" / "index.html").read_text()
    assert page.count('<img src="data:') == 2 * 3 * 2  # the pictures lie beside the runs
