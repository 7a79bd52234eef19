"""Samples named by the beginning of their ids."""

from __future__ import annotations

import re
from collections.abc import Iterable

import pyarrow.compute as pc

from surd.errors import SurdError
from surd.store.workspace import Workspace

ID = re.compile(r"[0-9a-f]{32}")
_BEGINNING = re.compile(r"[0-9a-f]{1,32}")
_SHOWN_CHARS = 12


def whole_ids(workspace: Workspace, beginnings: Iterable[str]) -> dict[str, str]:
    """Beginning, as it was typed -> the one id that begins so.

    Raises SurdError where no sample's id does, or those of several.
    """
    found: dict[str, list[str]] = {}
    for typed in beginnings:
        if not _BEGINNING.fullmatch(typed.lower()):
            raise SurdError(
                f"{typed!r}: not a sample id; write its 32 hexadecimal digits, or the first few"
            )
        found[typed] = []
    for part in workspace.parts("samples") if found else ():
        ids = workspace.read("samples", part, ["id"])["id"]
        for typed, some in found.items():
            some += ids.filter(pc.starts_with(ids, typed.lower())).to_pylist()[: 3 - len(some)]
    for typed, some in found.items():
        if not some:
            raise SurdError(f"{workspace.location}: no sample has the id {typed!r}")
        if len(set(some)) > 1:
            shown = ", ".join(id_[: max(_SHOWN_CHARS, len(typed) + 4)] for id_ in some[:3])
            raise SurdError(f"{typed}: several ids begin so ({shown}); write more of it")
    return {typed: some[0] for typed, some in found.items()}
