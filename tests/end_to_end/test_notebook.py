"""The notebook's cells, run in order as IPython would."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support_docs import ROOT

pytestmark = [
    pytest.mark.timeout(900),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def test_every_cell_of_the_notebook_runs(
    surd: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    names: dict[str, Any] = {}
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        text = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            continue
        if text.startswith("!"):
            filled = re.sub(r"\{(\w+)\}", lambda found: str(names[found[1]]), text[1:])
            program, *arguments = shlex.split(filled.replace("\\\n", " "))
            assert program == "surd"
            ran = surd(*arguments)
            assert ran.code == 0, f"{text}\n{ran.err}"
        else:
            exec(compile(text, cell["id"], "exec"), names)
    assert len(names["samples"]) == 12
    published = names["published"]
    assert 0 < len(published) < 12
    assert names["lowest"] in names["images"].index


def test_the_notebook_is_saved_without_outputs() -> None:
    """They would show what another version gave."""
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["id"] for cell in cells if cell["outputs"] or cell["execution_count"]] == []
