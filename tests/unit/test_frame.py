"""A workspace as a table of pandas."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest
from support import pictures

from surd.dataset.frame import frame
from surd.demo.site import Site
from surd.errors import SurdError, WorkspaceError
from surd.store.workspace import Workspace

Surd = Callable[..., Any]


@pytest.fixture
def folder(surd: Surd, tmp_path: Path) -> Path:
    """Five parts with images, of which the last has no prompts yet."""
    with Site(pictures(10, p3="not_found")) as site:
        sets = ["part_size=2", "download.allow_private_addresses=true", "download.retries=0"]
        sets += [f"sources.0.base_url={site.url}", "until=prompts", "prompts.language=false"]
        flags = [argument for one in sets for argument in ("--set", one)]
        assert surd("build", "civitai", "-o", tmp_path / "w", *flags).code == 0
    prompts = Workspace(tmp_path / "w").storage.path("prompts/part-00004.parquet")
    Path(prompts).unlink()
    return tmp_path / "w"


def test_every_sample_is_a_row_with_what_each_stage_says_of_it(folder: Path) -> None:
    found = frame(folder)
    workspace = Workspace(folder)
    ids = [i for part in range(5) for i in workspace.read("samples", part)["id"].to_pylist()]
    assert found.index.tolist() == ids and found.index.name == "id"
    assert found["images.status"].value_counts().to_dict() == {"ok": 9, "http_error": 1}
    assert found["images.http_status"].dtype == pd.ArrowDtype(pa.int16())
    assert found["prompts.complex_prompt"].isna().tolist() == [False] * 8 + [True] * 2
    assert found["verdicts.keep"].isna().all(), "no filter has run"
    assert "images.bytes" not in found and "clip.image_embedding" not in found


def test_columns_are_what_is_asked_for_in_that_order(folder: Path) -> None:
    found = frame(folder, ["prompts.token_count", "images.bytes", "samples.prompt"])
    assert list(found) == ["prompts.token_count", "images.bytes", "samples.prompt"]
    assert found["images.bytes"].dropna().map(len).gt(100).all()
    assert frame(folder, []).shape == (10, 0)


@pytest.mark.parametrize("column", ["clip.cosine", "clips.cos_simple", "prompt", "samples.id"])
def test_a_column_that_there_is_not_is_named_with_those_that_there_are(
    folder: Path, column: str
) -> None:
    with pytest.raises(SurdError, match=rf"^no column '{column}'; columns are samples.source, "):
        frame(folder, [column])


def test_a_folder_that_is_no_workspace_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="not a surd workspace"):
        frame(tmp_path)
