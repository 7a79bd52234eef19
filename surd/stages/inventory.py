"""Whether samples/ has the parts that were collected, all of them and no others.

The manifest lists the parts, and the sources that they came from. Part files say nothing of their
workspace, since two workspaces of one recipe have the same bytes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from surd.errors import WorkspaceError, command
from surd.sources.record import SourceParams
from surd.stages.source_state import GROUP, part_states, source_key
from surd.store.prefetch import TABLES, ahead
from surd.store.schema import GROUPS
from surd.store.workspace import Collected, Manifest, Workspace, part_name


def begin(
    workspace: Workspace, manifest: Manifest, sources: Sequence[SourceParams], *, look_again: bool
) -> None:
    """Note the sources that parts may come from now on, before there is such a part.

    Raises WorkspaceError where parts came from elsewhere, and where some are lost, unless sources
    are looked at again, which brings their samples back.
    """
    known = manifest.collected
    if known is None:  # of an earlier version
        known = Collected(sources=sources_of(workspace))
    for problem in _foreign(workspace, known):
        raise WorkspaceError(problem)
    if not look_again:
        for problem in _lost(workspace, known):
            raise WorkspaceError(problem)
    keys = sorted({*known.sources, *map(source_key, sources)})
    _write(workspace, manifest, Collected(parts=known.parts, sources=keys))


def end(workspace: Workspace, manifest: Manifest) -> None:
    """Note the parts there are now."""
    known = manifest.collected or Collected()
    parts = as_ranges(workspace.parts(GROUP))
    _write(workspace, manifest, Collected(parts=parts, sources=known.sources))


def _write(workspace: Workspace, manifest: Manifest, collected: Collected) -> None:
    if collected != manifest.collected:
        manifest.collected = collected
        workspace.write_manifest(manifest)


def part_problems(workspace: Workspace) -> Iterator[str]:
    """One line for lost parts, and one for each that is another workspace's; reads footers."""
    known = workspace.read_manifest().collected if workspace.has_manifest() else None
    if known is not None:
        yield from _lost(workspace, known)
        yield from _foreign(workspace, known)


def doubles(workspace: Workspace) -> Iterator[str]:
    """One line where a sample is there twice; reads all ids."""

    def read(part: int) -> np.ndarray[tuple[int], np.dtype[np.bytes_]]:
        return np.array(workspace.read(GROUP, part, ["id"])["id"].to_pylist(), "S32")

    parts = workspace.parts(GROUP)
    columns = list(ahead(workspace.storage, parts, read, TABLES))
    ids = np.concatenate(columns) if columns else np.zeros(0, "S32")
    places = np.repeat(parts, [len(column) for column in columns])
    order = np.argsort(ids, kind="stable")
    again = np.flatnonzero(ids[order][1:] == ids[order][:-1])
    if not len(again):
        return
    first, second = (int(places[order[again[0] + i]]) for i in (0, 1))
    yield (
        f"{workspace.location}/{part_name(GROUP, second)}: {len(again):,} samples are there twice, "
        f"the first of them also in {part_name(GROUP, first)}; delete the part that was copied here"
    )


def gaps(workspace: Workspace) -> Iterator[str]:
    """One line for lost parts, with those of other groups that wait for their samples, and one for
    each part that no samples will come for; reads no part."""
    known = workspace.read_manifest().collected
    lost = lost_parts(workspace)
    if known is not None:
        yield from _lost(workspace, known)
    waiting = set()
    for group, part in orphans(workspace, [group for group in GROUPS if group != GROUP]):
        if any(part in some for some in lost):
            waiting.add(group)
        else:
            yield (
                f"{workspace.location}/{part_name(group, part)}: there are no samples of this "
                f"part; put them back, or delete it with: {command('clean', workspace.location)}"
            )
    if waiting:
        groups = [group for group in GROUPS if group in waiting]
        yield (
            f"{workspace.location}: parts of {', '.join(groups)} are there without these samples; "
            f"keep them: once the samples are back, {command('build', '-o', workspace.location)} "
            f"uses again what it can, and {command('clean', workspace.location)} deletes the rest"
        )


def orphans(workspace: Workspace, groups: Iterable[str]) -> Iterator[tuple[str, int]]:
    """Group and number of each part whose samples are not there."""
    there = set(workspace.parts(GROUP))
    for group in groups:
        yield from ((group, part) for part in workspace.parts(group) if part not in there)


def lost_parts(workspace: Workspace) -> list[range]:
    """Numbers of the parts of samples that were collected and are not there, in ascending
    ranges."""
    known = workspace.read_manifest().collected
    return [] if known is None else _lost_of(workspace, known)


def _lost_of(workspace: Workspace, known: Collected) -> list[range]:
    return list(_without(from_ranges(known.parts), workspace.parts(GROUP)))


def _lost(workspace: Workspace, known: Collected) -> Iterator[str]:
    lost = _lost_of(workspace, known)
    if lost:
        count = sum(len(numbers) for numbers in lost)
        yield (
            f"{workspace.location}/{GROUP}: lost {count:,} of its parts ({_as_text(lost):.100}"
            "); put the files back, or collect their samples again with: "
            + command("collect", workspace.location)
        )


def _foreign(workspace: Workspace, known: Collected) -> Iterator[str]:
    for part, _, state in part_states(workspace):
        if state.source not in known.sources:
            yield (
                f"{workspace.location}/{part_name(GROUP, part)}: was collected for another "
                "workspace; move it away"
            )


def sources_of(workspace: Workspace) -> list[str]:
    """Fingerprints of the sources that the parts came from."""
    return sorted({state.source for _, _, state in part_states(workspace)})


def as_ranges(numbers: Sequence[int]) -> str:
    """``0-2, 5`` of 0, 1, 2, 5, in ascending order."""
    ranges: list[range] = []
    for number in numbers:
        if ranges and ranges[-1].stop == number:
            ranges[-1] = range(ranges[-1].start, number + 1)
        else:
            ranges.append(range(number, number + 1))
    return _as_text(ranges)


def _as_text(ranges: Iterable[range]) -> str:
    return ", ".join(str(r.start) if len(r) == 1 else f"{r.start}-{r[-1]}" for r in ranges)


def from_ranges(text: str) -> Iterator[range]:
    """The numbers that :func:`as_ranges` wrote. They are not listed: a manifest may claim any."""
    for piece in text.split(", ") if text else ():
        first, _, last = piece.partition("-")
        yield range(int(first), int(last or first) + 1)


def _without(ranges: Iterable[range], numbers: Sequence[int]) -> Iterator[range]:
    """What is left of ascending ranges without some ascending numbers."""
    for one in ranges:
        first = one.start
        for number in numbers[bisect_left(numbers, one.start) : bisect_left(numbers, one.stop)]:
            if first < number:
                yield range(first, number)
            first = number + 1
        if first < one.stop:
            yield range(first, one.stop)
