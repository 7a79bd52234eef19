"""Settings that the filter had before: each change can be taken back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from surd.errors import WorkspaceError, one_line
from surd.stages.filter.params import FilterParams
from surd.store import manual
from surd.store.author import author, now
from surd.store.workspace import Workspace
from surd.untrusted import parse_json

_FILE = "filter-history.json"
_MOST = 100
"""Changes that are kept; the oldest go first."""


def remember(workspace: Workspace, before: Any, after: FilterParams) -> None:
    """Note the settings that are about to change, as a manifest has them. Those that no filter
    could have had are not noted: nobody can go back to them."""
    try:
        settings = _params(before)
    except ValueError:
        return
    if settings != after:
        entry = {"at": now(), "by": author(), "filter": settings.model_dump(mode="json")}
        _write(workspace, [*_read(workspace), entry])


def settings_before(workspace: Workspace, current: FilterParams) -> FilterParams:
    """The settings before the last change. Raises WorkspaceError without any."""
    return _last_other(workspace, current)[0]


def step_back(workspace: Workspace, current: FilterParams) -> None:
    """Have the recipe say the settings before the last change, which is forgotten. Raises
    WorkspaceError without any."""
    with workspace.locked():
        settings, earlier = _last_other(workspace, current)
        manifest = workspace.read_manifest()
        manifest.recipe["filter"] = settings.model_dump(mode="json")
        workspace.write_manifest(manifest)
        _write(workspace, earlier)  # after a kill before this, the entry changes nothing and goes


def _last_other(
    workspace: Workspace, current: FilterParams
) -> tuple[FilterParams, list[dict[str, Any]]]:
    """The last settings that are not today's, and the entries before them."""
    entries = _read(workspace)
    while entries:
        try:
            settings = _params(entries.pop()["filter"])
        except ValueError as error:
            raise _damaged(workspace, error) from error
        if settings != current:
            return settings, entries
    raise WorkspaceError(
        f"{workspace.location}: the filter has no earlier settings to go back to"
        + _by_hand(workspace)
    )


def _params(settings: Any) -> FilterParams:
    """Without keys that are gone since. Raises ValueError for what are no settings."""
    if not isinstance(settings, Mapping):
        raise ValueError("an entry without settings")
    known = FilterParams.model_fields.keys() & settings.keys()
    return FilterParams.model_validate({key: settings[key] for key in known})


def _by_hand(workspace: Workspace) -> str:
    """What somebody may have meant who has decided by hand."""
    decisions = manual.read(workspace)
    if not decisions:
        return ""
    last = manual.latest(workspace, decisions)
    which = f"; the last: {decisions[last]} {last}" if last else ""
    return f" ({len(decisions):,} decisions by hand are undone by --undo ID{which})"


def _read(workspace: Workspace) -> list[dict[str, Any]]:
    try:
        entries = parse_json(workspace.storage.read_bytes(_FILE))
        if not all(isinstance(entry["filter"], dict) for entry in entries):
            raise ValueError("an entry without settings")
    except FileNotFoundError:
        return []
    except (ValueError, TypeError, KeyError) as error:
        raise _damaged(workspace, error) from error
    found: list[dict[str, Any]] = entries
    return found


def _damaged(workspace: Workspace, error: Exception) -> WorkspaceError:
    return WorkspaceError(
        f"{workspace.location}/{_FILE}: damaged ({one_line(error)}); delete it to do without the "
        "filter's earlier settings"
    )


def _write(workspace: Workspace, entries: list[dict[str, Any]]) -> None:
    content = json.dumps(entries[-_MOST:], indent=1).encode() + b"\n"
    workspace.storage.write_bytes(_FILE, content)
