"""One workspace of several: their samples one after the other, each of them once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from surd.build.run import open_recipe
from surd.errors import SurdError
from surd.llm import layout
from surd.progress import Tick
from surd.recipe.keys import Recipe
from surd.recipe.load import Difference, differences
from surd.stages import inventory
from surd.stages.base import part_fingerprint
from surd.stages.source_state import source_key
from surd.store import edits, gone, manual
from surd.store.schema import GROUPS
from surd.store.storage import local_path
from surd.store.workspace import Collected, Manifest, PartInfo, Workspace, part_name

_WHOLE = ("duplicates", "verdicts")
"""Groups that depend on all samples, and are made anew in seconds."""
_BATCH_ROWS = 100


@dataclass(frozen=True)
class Merged:
    """What a merge made."""

    location: str
    samples: int
    doubles: int
    """Samples that an earlier workspace had already, and that are left out."""
    parts: int
    differing: list[tuple[str, str]]
    """Workspace, and a key of its settings in which it differs from the first, whose counts."""


def merge(locations: Sequence[str], out: str | Path, tick: Tick = lambda counts: None) -> Merged:
    """Write a new workspace with the samples of all, the recipe of the first, everybody's sources,
    decisions and edits. What models computed is kept.

    It is written beside `out` and renamed at the end. Raises SurdError where `out` is there, or a
    workspace lacks samples.
    """
    folder = local_path(out).absolute()
    if any(folder.iterdir()) if folder.is_dir() else folder.exists():
        raise SurdError(f"{out}: already exists; choose another folder")
    workspaces = [Workspace(location) for location in locations]
    recipes = [open_recipe(workspace) for workspace in workspaces]
    for workspace in workspaces:
        if not workspace.parts("samples"):
            raise SurdError(f"{workspace.location}: has no samples; leave it out")
        for problem in inventory.part_problems(workspace):
            raise SurdError(problem)
    temporary = folder.parent / f".{folder.name}.surd-merge.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        with ExitStack() as stack:
            for workspace in {w.storage.root: w for w in workspaces}.values():
                stack.enter_context(workspace.locked())
            target = Workspace(temporary)
            done = _fill(target, workspaces, recipes, str(out), tick)
        os.sync()
        if folder.exists():
            folder.rmdir()
        temporary.rename(folder)
    except OSError as error:
        raise SurdError(f"{out}: cannot write here: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return done


def _fill(
    target: Workspace,
    workspaces: Sequence[Workspace],
    recipes: Sequence[Recipe],
    location: str,
    tick: Tick,
) -> Merged:
    seen: set[str] = set()
    absent: set[str] = set()
    number = doubles = 0
    for workspace in workspaces:
        for part in workspace.parts("samples"):
            ids = workspace.read("samples", part, ["id"])["id"].to_pylist()
            new = np.array([id_ not in seen for id_ in ids], bool)
            seen.update(ids)
            doubles += int((~new).sum())
            if new.any():
                _copy_part(workspace, part, target, number, new)
                number += 1
            tick({"ok": int(new.sum()), **({"known": int((~new).sum())} if not new.all() else {})})
        absent |= gone.read(workspace)
        _copy_decisions(workspace, target)
    gone.write(target, absent & seen)
    _write_manifest(target, workspaces, recipes)
    differing = [
        (workspace.location, one.key)
        for workspace, recipe in zip(workspaces[1:], recipes[1:], strict=True)
        for one in _differences(recipes[0], recipe)
    ]
    return Merged(location, len(seen), doubles, number, differing)


def _copy_part(
    workspace: Workspace, part: int, target: Workspace, number: int, new: npt.NDArray[np.bool_]
) -> None:
    """All groups of a part, as files; without the samples that are there already, as new files."""
    vectors = [layout.group(model, layer) for model, layer in layout.stored(workspace)]
    groups = [group for group in GROUPS if group not in _WHOLE]
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    for group in [*groups, *(vectors if new.all() else [])]:
        info = workspace.part_info(group, part)
        if info is None:
            continue
        if new.all():
            _copy(workspace, part_name(group, part), target, part_name(group, number))
            continue
        before[group] = info.digest
        inputs = {g: after[g] if before.get(g) == d else d for g, d in info.inputs.items()}
        _copy_rows(workspace, group, part, target, number, new, info, inputs)
        written = target.part_info(group, number)
        assert written is not None
        after[group] = written.digest


def _copy_rows(
    workspace: Workspace,
    group: str,
    part: int,
    target: Workspace,
    number: int,
    new: npt.NDArray[np.bool_],
    info: PartInfo,
    inputs: dict[str, str],
) -> None:
    """Some rows of a part, with their keys; as fresh as the part was."""
    keys = [keys for _, keys in workspace.keyed(group, part)]
    row_keys = np.concatenate(keys)[new[: info.rows]] if keys else None
    fresh = info.fingerprint == part_fingerprint(info.settings, info.inputs)
    first = 0
    with target.writing_part(group, number, GROUPS[group]) as writer:
        for table in workspace.read_batches(group, part, None, _BATCH_ROWS):
            chosen = table.filter(pa.array(new[first : first + table.num_rows]))
            first += table.num_rows
            writer.write(_whole(chosen, GROUPS[group]))
        writer.describe(
            fingerprint=part_fingerprint(info.settings, inputs) if fresh else info.fingerprint,
            settings=info.settings,
            inputs=inputs,
            extra=info.extra,
            row_keys=row_keys,
        )


def _whole(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """With null columns where an earlier version had none."""
    columns = [
        table[field.name] if field.name in table.column_names else pa.nulls(len(table), field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _copy_decisions(workspace: Workspace, target: Workspace) -> None:
    for group in (manual.GROUP, edits.GROUP):
        there = set(target.storage.names(group))
        for name in workspace.storage.names(group):
            if name not in there:
                _copy(workspace, f"{group}/{name}", target, f"{group}/{name}")


def _copy(workspace: Workspace, name: str, target: Workspace, new_name: str) -> None:
    """As a hard link where that is possible: parts are replaced, never written into."""
    path = Path(target.storage.path(new_name))
    path.parent.mkdir(parents=True, exist_ok=True)
    source = workspace.storage.path(name)
    if workspace.storage.is_local:
        try:
            os.link(source, path)
        except OSError:
            shutil.copyfile(source, path)
    else:
        workspace.storage.fs.get_file(source, str(path))


def _write_manifest(
    target: Workspace, workspaces: Sequence[Workspace], recipes: Sequence[Recipe]
) -> None:
    manifests = [workspace.read_manifest() for workspace in workspaces]
    sources = {source_key(source): source for recipe in recipes for source in recipe.sources}
    recipe = recipes[0].model_copy(update={"sources": list(sources.values())})
    known = {
        key for manifest in manifests if manifest.collected for key in manifest.collected.sources
    }
    collected = Collected(
        parts=inventory.as_ranges(target.parts("samples")),
        sources=sorted({*known, *sources, *inventory.sources_of(target)}),
    )
    target.write_manifest(
        Manifest(
            recipe=recipe.model_dump(mode="json"),
            stages=manifests[0].stages,
            collected=collected,
            versions=manifests[0].versions,
        )
    )


def _differences(first: Recipe, other: Recipe) -> Iterator[Difference]:
    """Settings of stages in which another recipe differs."""
    about = {"name": first.name, "description": first.description, "sources": first.sources}
    for one in differences(first, other.model_copy(update=about)):
        if one.key.split(".")[0] in ("download", "prompts", "caption", "score"):
            yield one
