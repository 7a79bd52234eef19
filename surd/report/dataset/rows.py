"""A workspace's rows as the report reads them: part by part, small columns only, whatever stage
it has come to."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from surd.store.schema import GROUPS
from surd.store.workspace import Workspace

_COLUMNS: dict[str, dict[str, str]] = {
    "samples": {name: name for name in ("id", "source", "url", "licence", "nsfw_level")},
    "images": {
        "image_status": "status", "http_status": "http_status", "mime": "mime", "width": "width",
        "height": "height",
    },
    "prompts": {
        "prompt_status": "status", "complex_prompt": "complex_prompt", "language": "language",
    },
    "captions": {"candidates": "candidates"},
    "clip": {
        name: name
        for name in ("simple_prompt", "cos_simple", "cos_complex", "itm", "aesthetic", "nsfw")
    },
    "duplicates": {name: name for name in ("cluster", "cluster_size", "kind", "similarity")},
    "verdicts": {"keep": "keep", "reasons": "reasons"},
}  # fmt: skip
"""Group -> our name of a column -> its name there."""
MORE = ("author", "page_url", "model")
"""Of the samples; read only of those that are shown."""


Groups = Mapping[str, frozenset[int]]
"""Group -> its parts; groups without any are left out."""


def groups_there(workspace: Workspace) -> Groups:
    """What there is, found out once: on an object store every look is a request."""
    found = {group: frozenset(workspace.parts(group)) for group in _COLUMNS}
    return {group: parts for group, parts in found.items() if parts}


def tables(workspace: Workspace, groups: Groups) -> Iterator[tuple[int, pa.Table]]:
    """(part, its rows) with the columns of every group; null where a group has none.

    Raises WorkspaceError when a part is damaged.
    """
    for part in sorted(groups.get("samples", ())):
        yield part, read(workspace, part, groups)


def read(workspace: Workspace, part: int, groups: Groups, more: Sequence[str] = ()) -> pa.Table:
    """One part's rows.

    Before there are cleaned prompts, ``complex_prompt`` is the raw one; before CLIP has chosen,
    ``simple_prompt`` is the first candidate, or what the source had.
    """
    prompts = ("prompt",) if "prompts" not in groups else ()
    simple = ("simple_prompt",) if not groups.keys() & {"captions", "clip"} else ()
    names = [*_COLUMNS["samples"].values(), *prompts, *simple, *more]
    samples = workspace.read("samples", part, names)
    columns = {name: samples[name] for name in samples.column_names}
    if prompts:
        columns["complex_prompt"] = columns.pop("prompt")
    for group, wanted in _COLUMNS.items():
        if group == "samples" or (group == "captions" and "clip" in groups):
            continue
        found = _read_group(workspace, group, part, samples["id"], groups)
        for name, theirs in wanted.items():
            if found is not None:
                columns[name] = found[theirs]
            elif name not in columns:
                columns[name] = pa.nulls(len(samples), GROUPS[group].field(theirs).type)
    candidates = columns.pop("candidates", None)
    if candidates is not None and "captions" in groups:
        columns["simple_prompt"] = _first(candidates)
    return pa.table(columns)


def _read_group(
    workspace: Workspace, group: str, part: int, ids: pa.ChunkedArray, groups: Groups
) -> pa.Table | None:
    if part not in groups.get(group, ()):
        return None
    table = workspace.read(group, part, ["id", *_COLUMNS[group].values()])
    if table["id"].equals(ids):
        return table
    at = pc.index_in(ids, table["id"].combine_chunks())  # the samples have grown since
    return table.take(at)


def _first(candidates: pa.ChunkedArray) -> pa.Array:
    lists = candidates.combine_chunks()
    first = pc.list_slice(lists, 0, 1, return_fixed_size_list=True)
    return pc.list_element(first, 0).field("text")
