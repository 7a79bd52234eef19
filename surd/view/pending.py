"""Edits that the scores do not know of yet, or not any more."""

from __future__ import annotations

from collections.abc import Mapping

from surd.store import edits
from surd.store.edits import Edits
from surd.store.workspace import DamagedPartError, Workspace
from surd.view.index import Index

Applied = Mapping[int, str | None]
"""Scored part -> the digest of the edits it was scored with."""


def applied_edits(workspace: Workspace) -> Applied:
    """What the footers of the scored parts say; damaged ones are left out."""
    found: dict[int, str | None] = {}
    look = workspace.part_infos("clip")
    for part in workspace.parts("clip"):
        try:
            info = look("clip", part)
        except DamagedPartError:
            continue
        if info is not None:
            found[part] = info.inputs.get(edits.GROUP)
    return found


def pending_edits(workspace: Workspace, index: Index, applied: Applied, found: Edits) -> int:
    """How many samples have another simple prompt than they were scored with."""
    now = found.now()
    by_part: dict[int, list[str]] = {}
    places = index.positions_of(found.ever())
    for id_, position in sorted(places.items(), key=lambda one: one[1]):
        by_part.setdefault(index.place(position)[0], []).append(id_)
    count = 0
    for part, digest in applied.items():
        ids = by_part.get(part, [])
        here = [(id_, now[id_]) for id_ in ids if id_ in now]
        if digest != (edits.digest(here) if here else None):
            count += _differing(workspace, part, ids, now, found)
    return count


def _differing(
    workspace: Workspace, part: int, ids: list[str], now: Mapping[str, str], found: Edits
) -> int:
    """Of a part that is out of date; at least 1, since something has changed."""
    table = workspace.read("clip", part, ["id", "simple_prompt"])
    columns = (table[name].to_pylist() for name in ("id", "simple_prompt"))
    scored = dict(zip(*columns, strict=True))
    before: dict[str, set[str | None]] = {}
    for edit in found.edits:
        for id_, text in edit.texts.items():
            before.setdefault(id_, set()).add(text)
    differing = [
        id_
        for id_ in ids
        if (scored.get(id_) != now[id_] if id_ in now else scored.get(id_) in before[id_])
    ]
    return max(1, len(differing))
