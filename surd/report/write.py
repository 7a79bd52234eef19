"""report: one HTML file about a workspace, or about a training run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from surd.errors import SurdError
from surd.pages.text import visible
from surd.progress import Tick
from surd.report.dataset import sections as dataset
from surd.report.page import Section, render
from surd.report.runs import sections as runs
from surd.store.storage import Storage
from surd.store.workspace import Workspace

FILE = "report/index.html"
_BRAND = b'<p class="brand">surd report</p>'
"""In every report's page, by which a later one may take its place."""


@dataclass(frozen=True)
class Written:
    """What was written, and where."""

    location: str
    bytes: int
    sections: tuple[str, ...]


def report(location: str, output: str | None = None, tick: Tick = lambda counts: None) -> Written:
    """Write the report of the workspace or training run at ``location``, whole or not at all.

    ``output``: a file, or a folder for ``index.html``; ``report/index.html`` within ``location``
    by default. Raises SurdError, also where a file is in the way that is no report.
    """
    location = location.rstrip("/") or location
    folder, file = _target(location, output)
    _check_free(Storage(folder), file)
    workspace = Workspace(location)
    data: dict[str, Any] = {}
    subtitle = ""
    if workspace.has_manifest():
        found, data = dataset.sections(workspace, tick)
        recipe = workspace.read_manifest().recipe
        told = (str(recipe.get(key) or "") for key in ("name", "description"))
        subtitle = ": ".join(text for text in told if text)
        found += _runs(workspace)
    else:
        found = _run(workspace)
    name = workspace.storage.root.rstrip("/").rsplit("/", 1)[-1]
    page = render(visible(name), found, subtitle=visible(subtitle), data=data)
    content = page.encode("utf-8", "replace")  # names of folders may be no Unicode
    Storage(folder).write_bytes(file, content)
    return Written(f"{folder}/{file}", len(content), tuple(section.id for section in found))


def _target(location: str, output: str | None) -> tuple[str, str]:
    if output is None:
        return location, FILE
    if output.endswith("/") or ("://" not in output and Path(output).is_dir()):
        return output.rstrip("/") or "/", "index.html"
    folder, _, file = output.rpartition("/")
    return folder or ".", file


def _check_free(storage: Storage, file: str) -> None:
    try:
        ours = _BRAND in storage.read_bytes(file)
    except (FileNotFoundError, NotADirectoryError):
        return
    if not ours:
        raise SurdError(
            f"{storage.location}/{file}: already exists and is not a surd report; choose "
            "another --output"
        )


def _runs(workspace: Workspace) -> list[Section]:
    """Of the adapters trained within a workspace."""
    found: list[Section] = []
    if workspace.storage.is_local:
        for folder in sorted(Path(workspace.storage.root, "adapter").glob("*/")):
            found += [*runs.sections(str(folder)), *runs.ablation_sections(str(folder))]
    return found


def _run(workspace: Workspace) -> list[Section]:
    """Of a training run's own folder."""
    where = workspace.location
    found: list[Section] = []
    if workspace.storage.is_local:
        root = workspace.storage.root
        found = [*runs.sections(root), *runs.ablation_sections(root)]
    if not found:
        raise SurdError(
            f"{where}: neither a workspace (no surd.json) nor the folder of a training run; "
            "create a workspace with: surd build RECIPE -o DIR"
        )
    return found
