"""A workspace's rows as the report reads them: part by part, small columns only, whatever stage
it has come to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from surd.store.aligned import Parts, parts_there, read_aligned
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
    "dense": {"dense_caption": "dense_caption"},
    "tags": {"tags": "tags"},
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


def groups_there(workspace: Workspace) -> Parts:
    """What there is, without the groups of stages that have not begun."""
    return {group: parts for group, parts in parts_there(workspace, _COLUMNS).items() if parts}


def tables(workspace: Workspace, groups: Parts) -> Iterator[tuple[int, pa.Table]]:
    """(part, its rows) with the columns of every group; null where a group has none.

    Raises WorkspaceError when a part is damaged.
    """
    for part in sorted(groups.get("samples", ())):
        yield part, read(workspace, part, groups)


def read(workspace: Workspace, part: int, groups: Parts, more: Sequence[str] = ()) -> pa.Table:
    """One part's rows.

    Before there are cleaned prompts, ``complex_prompt`` is the raw one; before CLIP has chosen,
    ``simple_prompt`` is the first candidate, or what the source had.
    """
    prompts = ("prompt",) if "prompts" not in groups else ()
    simple = ("simple_prompt",) if not groups.keys() & {"captions", "clip"} else ()
    wanted = {group: list(names.values()) for group, names in _COLUMNS.items()}
    wanted["samples"] += [*prompts, *simple, *more]
    if "clip" in groups:
        del wanted["captions"]
    found = read_aligned(workspace, part, wanted, there=groups)
    columns = {name: found["samples"][name] for name in found["samples"].column_names}
    if prompts:
        columns["complex_prompt"] = columns.pop("prompt")
    for group, names in _COLUMNS.items():
        if group not in ("samples", "captions"):
            for name, theirs in names.items():
                if group in groups or name not in columns:
                    columns[name] = found[group][theirs]
    if "clip" not in groups and "captions" in groups:
        columns["simple_prompt"] = _first(found["captions"]["candidates"])
    return pa.table(columns)


def _first(candidates: pa.ChunkedArray) -> pa.Array:
    lists = candidates.combine_chunks()
    first = pc.list_slice(lists, 0, 1, return_fixed_size_list=True)
    return pc.list_element(first, 0).field("text")
