"""Settings that the filter had before: each change can be taken back."""

from __future__ import annotations

import json
from typing import Any

from surd.errors import SurdError, WorkspaceError
from surd.stages.filter.params import FilterParams
from surd.store.author import author, now
from surd.store.workspace import Workspace
from surd.untrusted import parse_json

_FILE = "filter-history.json"
_MOST = 100
"""Changes that are kept; the oldest go first."""


def remember(workspace: Workspace, before: FilterParams) -> None:
    """Note the settings that are about to change."""
    entry = {"at": now(), "by": author(), "filter": before.model_dump(mode="json")}
    _write(workspace, [*_read(workspace), entry])


def step_back(workspace: Workspace, current: FilterParams, *, write: bool = True) -> dict[str, Any]:
    """The settings before the last change, which is forgotten. Raises SurdError without any."""
    known = set(FilterParams.model_fields)
    entries = _read(workspace)
    while entries:
        last = entries.pop()
        settings = {key: value for key, value in last["filter"].items() if key in known}
        if settings != current.model_dump(mode="json"):
            if write:
                _write(workspace, entries)
            return settings
    raise SurdError(f"{workspace.location}: the filter has no earlier settings to go back to")


def _read(workspace: Workspace) -> list[dict[str, Any]]:
    try:
        entries = parse_json(workspace.storage.read_bytes(_FILE))
        if not all(isinstance(entry["filter"], dict) for entry in entries):
            raise ValueError("an entry without settings")
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise WorkspaceError(
            f"{workspace.location}/{_FILE}: damaged ({error}); delete it to do without the "
            "filter's earlier settings"
        ) from error
    found: list[dict[str, Any]] = entries
    return found


def _write(workspace: Workspace, entries: list[dict[str, Any]]) -> None:
    content = json.dumps(entries[-_MOST:], indent=1).encode() + b"\n"
    workspace.storage.write_bytes(_FILE, content)
