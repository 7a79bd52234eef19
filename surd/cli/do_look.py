"""Looking: at samples, at schemas, and at this machine."""

from __future__ import annotations

import difflib
import sys
from dataclasses import asdict
from pathlib import Path

from surd.cli.printing import print_json, say, shown
from surd.errors import SurdError


def inspect(folder: str, query: str | None, limit: int, *, as_json: bool) -> None:
    """``surd inspect``."""
    from surd.dataset.inspect import find, sample
    from surd.store.workspace import Workspace

    workspace = Workspace(folder)
    workspace.read_manifest()
    matches = find(workspace, query, limit)
    if not matches:
        raise SurdError(f"{folder}: no sample has {query!r} in its id, url, path or prompt")
    if len(matches) == 1:
        found = sample(workspace, matches[0])
        if as_json:
            print_json(found)
        else:
            for group, row in found.items():
                say(f"{group}:")
                for key, value in row.items():
                    say(f"  {key}: {shown(value)}")
        return
    if as_json:
        print_json({"matches": [asdict(match) for match in matches]})
        return
    for match in matches:
        say(f"{match.id}  {match.source}  {shown(match.prompt)[:100]}")
    say(f"{len(matches)} shown; name one by its id to see it in full")


def schema(name: str | None, write: Path | None) -> None:
    """``surd schema``."""
    from surd.recipe.json_schema import json_schemas, write_json_schemas

    if write is not None:
        if not write.is_dir():
            raise SurdError(f"{write}: no such folder; create it first")
        for path in write_json_schemas(write):
            say(str(path))
        return
    schemas = json_schemas()
    if name is None:
        say("schemas: " + ", ".join(schemas))
    elif name in schemas:
        print_json(schemas[name])
    else:
        near = difflib.get_close_matches(name, schemas, n=1)
        mend = f"did you mean {near[0]}?" if near else f"there are {', '.join(schemas)}"
        raise SurdError(f"{name}: no such schema; {mend}")


def doctor(*, as_json: bool) -> None:
    """``surd doctor``."""
    from surd.doctor import examine

    findings = []
    for finding in examine():
        findings.append(finding)
        if not as_json:
            mend = f"; {finding.mend}" if finding.mend and finding.state != "ok" else ""
            say(f"{finding.state:<4}  {finding.what}: {shown(finding.found)}{mend}")
    well = all(finding.state != "BAD" for finding in findings)
    if as_json:
        print_json({"ok": well, "findings": [asdict(finding) for finding in findings]})
    if not well:
        sys.exit(1)
