"""Keep and drop by hand: what somebody said of single samples, whatever the filters say.

A decision is a small file, ``manual/ID.keep.json`` or ``manual/ID.drop.json``, and its name says
all that counts. So a list of names is enough to read them, several people may decide at once, on
an object store too, and no kill leaves half of one. Where both are there, because two people
differed in the same moment, it is a drop.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Literal, cast

import pyarrow as pa
import pyarrow.compute as pc

from surd.errors import SurdError
from surd.store.author import author, now
from surd.store.ids import ID, whole_ids
from surd.store.workspace import Workspace
from surd.untrusted import parse_json

Decision = Literal["keep", "drop"]
Decisions = Mapping[str, Decision]
"""Sample id -> what was decided."""

REASON = "manual"
"""The reason a verdict gives for them; its detail is the decision."""
GROUP = "manual"
"""Their folder in a workspace."""

_NAME = re.compile(r"([0-9a-f]{32})\.(keep|drop)\.json")


def read(workspace: Workspace) -> dict[str, Decision]:
    """All decisions there are, in the order of the ids."""
    found: dict[str, Decision] = {}
    for name in workspace.storage.names(GROUP):
        match = _NAME.fullmatch(name)
        if match and found.get(match[1]) != "drop":
            found[match[1]] = cast(Decision, match[2])
    return found


_MOST_READ = 1_000
"""Decisions whose files are read to find the last one."""


def latest(workspace: Workspace, decisions: Decisions) -> str | None:
    """The id of the sample decided on last; None where nobody can tell, or reading them all would
    take long."""
    times: dict[str, str] = {}
    for sample_id, decision in decisions.items() if len(decisions) <= _MOST_READ else ():
        with contextlib.suppress(OSError, ValueError, TypeError, KeyError):  # its name is enough
            said = parse_json(workspace.storage.read_bytes(_name(sample_id, decision)))
            times[sample_id] = str(said["at"])
    return max(times, key=lambda id_: times[id_], default=None)


def decide(workspace: Workspace, sample_id: str, decision: Decision | None) -> None:
    """Keep or drop a sample by hand; None leaves it to the filters again.

    On the disk before this returns. Raises SurdError for what is no id, and WorkspaceError where
    the workspace cannot be written to.
    """
    if not ID.fullmatch(sample_id):
        raise SurdError(f"{sample_id!r}: not a sample id; an id has 32 hexadecimal digits")
    if decision is not None:
        said = {"id": sample_id, "decision": decision, "at": now(), "by": author()}
        content = json.dumps(said, ensure_ascii=False).encode() + b"\n"
        workspace.storage.write_bytes(_name(sample_id, decision), content)
    for other in ("keep", "drop"):
        if other != decision and workspace.storage.exists(_name(sample_id, other)):
            workspace.storage.delete(_name(sample_id, other))


def decide_all(
    workspace: Workspace, changes: Mapping[str, Decision | None], *, write: bool = True
) -> dict[str, Decision]:
    """Decide on several samples, named by the beginning of their ids; the decisions there are
    then, or would be without `write`.

    Raises SurdError, before anything is written, when the workspace has no such sample, or several.
    """
    ids = whole_ids(workspace, changes)
    wanted: dict[str, Decision | None] = {}
    for typed, decision in changes.items():
        if wanted.setdefault(ids[typed], decision) != decision:
            raise SurdError(f"{typed}: give one of --keep, --drop and --undo for a sample")
    decisions = read(workspace)
    for sample_id, decision in wanted.items():
        decisions.pop(sample_id, None)
        if decision is not None:
            decisions[sample_id] = decision
        if write:
            decide(workspace, sample_id, decision)
    return decisions


def inputs(decisions: Decisions) -> dict[str, str]:
    """For a part's footer and fingerprint: a digest of the decisions; nothing where there are none.

    So a workspace without any is as fresh as it was before there could be some.
    """
    if not decisions:
        return {}
    text = json.dumps(sorted(decisions.items()))
    return {GROUP: hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}


def column(ids: pa.ChunkedArray, decisions: Decisions) -> pa.ChunkedArray:
    """``keep``, ``drop`` or null for each id."""
    at = pc.index_in(ids, pa.array(list(decisions), pa.string()))
    return pa.chunked_array([pa.array(list(decisions.values()), pa.string())]).take(at)


def is_keep(reason: Mapping[str, Any]) -> bool:
    """Whether an entry of a verdict's reasons is a decision to keep, which drops nothing: of a
    sample that is dropped it was in vain."""
    return (reason["reason"], reason["detail"]) == (REASON, "keep")


def _name(sample_id: str, decision: str) -> str:
    return f"{GROUP}/{sample_id}.{decision}.json"
