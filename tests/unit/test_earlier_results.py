"""New results do not replace earlier ones of other settings."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from surd.evaluate.earlier import keep_earlier


def write(folder: Path, **settings: object) -> None:
    keep_earlier(folder, "evaluation", settings)
    for suffix in ("parquet", "md"):
        (folder / f"evaluation.{suffix}").write_text(str(settings))
    (folder / "evaluation.json").write_text(json.dumps({**settings, "rows": [1]}))


def seen(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.iterdir()}


def test_earlier_results_keep_a_number_and_the_name_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "surd"):
        for prompts in ("a", "b", "c"):
            before = seen(tmp_path)
            write(tmp_path, prompts=prompts)
            for name, text in before.items():
                assert name.startswith("evaluation-") or text in seen(tmp_path).values()
    assert len(seen(tmp_path)) == 9
    assert (tmp_path / "evaluation-1.md").read_text() == str({"prompts": "a"})
    assert (tmp_path / "evaluation-2.parquet").read_text() == str({"prompts": "b"})
    assert [record.getMessage().split(" kept as ")[1] for record in caplog.records] == [
        f"evaluation-{n}.parquet, evaluation-{n}.md, evaluation-{n}.json" for n in (1, 2)
    ]


def test_results_of_the_same_settings_are_replaced(tmp_path: Path) -> None:
    for _ in range(2):
        write(tmp_path, prompts=("a", "b"), clip="none")
    assert len(seen(tmp_path)) == 3


def test_what_cannot_be_read_is_kept_too(tmp_path: Path) -> None:
    (tmp_path / "evaluation.json").write_text("{")
    write(tmp_path, prompts="a")
    assert (tmp_path / "evaluation-1.json").read_text() == "{"


def test_a_renaming_that_was_killed_is_finished_under_its_number(tmp_path: Path) -> None:
    write(tmp_path, prompts="a")
    (tmp_path / "evaluation.parquet").rename(tmp_path / "evaluation-1.parquet")
    write(tmp_path, prompts="b")
    kept = {name for name in seen(tmp_path) if "-" in name}
    assert kept == {"evaluation-1.parquet", "evaluation-1.md", "evaluation-1.json"}
    assert (tmp_path / "evaluation-1.parquet").read_text() == str({"prompts": "a"})
