"""Samples that their sources no longer have, as ``surd collect --refresh`` found.

Their ids are in one file, ``samples/gone.json``, apart from the samples' rows: so a picture that
goes or comes back makes the verdicts stale and nothing else. Nothing is deleted.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Set

import pyarrow as pa
import pyarrow.compute as pc

from surd.errors import WorkspaceError, command
from surd.store.ids import ID
from surd.store.workspace import Workspace
from surd.untrusted import parse_json

REASON = "gone"
"""The reason a verdict gives for them, and the column that the filter reads."""
_FILE = "samples/gone.json"


def read(workspace: Workspace) -> frozenset[str]:
    """Their ids. Raises WorkspaceError where the file is damaged."""
    try:
        content = parse_json(workspace.storage.read_bytes(_FILE))
        if not all(ID.fullmatch(id_) for id_ in content["gone"]):
            raise ValueError("gone has what is no id of a sample")
        return frozenset(content["gone"])
    except FileNotFoundError:
        return frozenset()
    except (ValueError, TypeError, KeyError) as error:
        raise WorkspaceError(
            f"{workspace.location}/{_FILE}: damaged ({error}); delete it and run: "
            + command("collect", workspace.location, "--refresh")
        ) from error


def write(workspace: Workspace, ids: Set[str]) -> None:
    """Replace the file, atomically; without ids there is none."""
    if ids:
        workspace.storage.write_bytes(_FILE, json.dumps({"gone": sorted(ids)}).encode() + b"\n")
    else:
        workspace.storage.delete(_FILE)


def inputs(ids: Set[str]) -> dict[str, str]:
    """For a part's footer and fingerprint: a digest of the ids; nothing where there are none.

    So a workspace without any is as fresh as it was before there could be some.
    """
    if not ids:
        return {}
    text = json.dumps(sorted(ids))
    return {REASON: hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}


def column(ids: pa.ChunkedArray, gone: Set[str]) -> pa.ChunkedArray:
    """Whether each of ``ids`` is gone."""
    return pc.is_in(ids, pa.array(gone, pa.string()))
