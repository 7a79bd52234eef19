"""The report's sections about a dataset, from one pass over a workspace's small columns."""

from __future__ import annotations

from typing import Any

from surd.dataset.folder import read_description
from surd.progress import Tick
from surd.report.dataset import clusters, composition, failures, funnel, scores, timing, triples
from surd.report.dataset.choose import Choice
from surd.report.dataset.rows import groups_there, tables
from surd.report.dataset.samples import gather
from surd.report.page import Section
from surd.store.workspace import Manifest, Workspace


def sections(
    workspace: Workspace, tick: Tick = lambda counts: None
) -> tuple[list[Section], dict[str, Any]]:
    """The sections, and the data for the page's scripts. Raises WorkspaceError.

    Reads every part once without pictures, then the row groups of the pictures that are shown.
    """
    manifest = workspace.read_manifest()
    groups = groups_there(workspace)
    infos = (workspace.part_info("samples", part) for part in sorted(groups.get("samples", ())))
    total = sum(info.rows for info in infos if info)
    choice = Choice(total)
    steps, scored = funnel.Funnel(groups), scores.ScoreCounts()
    twice, made_of, failed = clusters.Duplicates(), composition.Composition(), failures.Failures()
    for part, rows in tables(workspace, groups):
        order = choice.order(rows["id"], part)
        steps.add(part, rows, order, choice)
        scored.add(part, rows, order, choice)
        triples.offer(part, rows, order, choice)
        twice.add(rows)
        made_of.add(rows)
        failed.add(rows)
        tick({"ok": len(rows)})
    members = clusters.members(workspace, twice.largest())
    reasons = [name for name in choice.names() if isinstance(name, tuple) and name[0] == "reason"]
    wanted = [
        *(place for name in [("kept",), *reasons] for place in choice.places(name)),
        *(place for places in members.values() for place in places),
        *choice.places("triples"),
        *scores.places(choice),
    ]
    samples = gather(workspace, groups, wanted)
    thresholds = {**_settings(manifest), **steps.thresholds}
    description = read_description(workspace.storage)
    first, examples = funnel.section(steps, choice, samples, description)
    found: list[Section | None] = [first]
    data: dict[str, Any] = {"samples": samples.entries, "examples": examples}
    shown = steps.steps["kept"] if "verdicts" in groups else total
    for name, made in (
        ("scores", scores.section(scored, thresholds, samples, "verdicts" in groups)),
        ("triples", triples.section(choice, samples, shown)),
        ("clusters", clusters.section(twice, members, samples)),
    ):
        if made is not None:
            found.append(made[0])
            data[name] = made[1]
    found += [composition.section(made_of), failures.section(failed), timing.section(manifest)]
    return [section for section in found if section is not None], data


def _settings(manifest: Manifest) -> dict[str, float | None]:
    """The filter's thresholds as they were given; quantiles are known by what they dropped."""
    run = manifest.stages.get("filter")
    given = run.settings if run else {}
    return {
        name: float(value)
        for name, value in given.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
