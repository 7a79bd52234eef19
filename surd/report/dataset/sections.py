"""The report's sections about a dataset, from one pass over a workspace's small columns."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from surd.build.dataset_state import dataset_state
from surd.dataset.atomic_folder import read_description
from surd.progress import Tick
from surd.report.dataset import clusters, composition, failures, funnel, scores, sources
from surd.report.dataset.rows import groups_there, tables
from surd.report.dataset.samples import Choice, Samples, gather
from surd.report.page import Section, body
from surd.stages.collected import collected
from surd.stages.filter.rules import LABELS
from surd.store.workspace import Manifest, Workspace

_TRIPLES = 96
_STAGES = (
    "collect", "download", "prompts", "caption", "dense", "tags", "score", "dedup", "filter",
    "publish", "embed_llm",
)  # fmt: skip


def sections(
    workspace: Workspace, tick: Tick = lambda counts: None
) -> tuple[list[Section], dict[str, Any]]:
    """The sections, and the data for the page's scripts. Raises WorkspaceError.

    Reads every part once without pictures, then the row groups of the pictures that are shown.
    """
    manifest = workspace.read_manifest()
    groups = groups_there(workspace)
    look = workspace.part_infos("samples")
    infos = (look("samples", part) for part in sorted(groups.get("samples", ())))
    total = sum(info.rows for info in infos if info)
    choice = Choice(total)
    steps, scored = funnel.Funnel(groups), scores.ScoreCounts()
    twice, made_of, failed = clusters.Duplicates(), composition.Composition(), failures.Failures()
    for part, rows in tables(workspace, groups):
        order = choice.order(rows["id"], part)
        steps.add(part, rows, order, choice)
        scored.add(part, rows, order, choice)
        _offer_triples(part, rows, order, choice)
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
    outdated = description is not None and dataset_state(workspace).state == "stale"
    first, examples = funnel.section(steps, choice, samples, description, outdated=outdated)
    found: list[Section | None] = [first, sources.section(collected(workspace))]
    data: dict[str, Any] = {"samples": samples.entries, "examples": examples, "labels": LABELS}
    shown = steps.steps["kept"] if "verdicts" in groups else total
    for name, made in (
        ("scores", scores.section(scored, thresholds, steps.whys, "verdicts" in groups)),
        ("triples", _triples(choice, samples, shown)),
        ("clusters", clusters.section(twice, members, samples)),
    ):
        if made is not None:
            found.append(made[0])
            data[name] = made[1]
    found += [composition.section(made_of), failures.section(failed), _times(manifest)]
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


def _offer_triples(
    part: int, rows: pa.Table, order: npt.NDArray[np.uint64], choice: Choice
) -> None:
    """Choose among what is kept; before there are verdicts, among what has a picture."""
    judged = rows["keep"].null_count < len(rows)
    fit = rows["keep"] if judged else pc.equal(rows["image_status"], "ok")
    if rows["image_status"].null_count == len(rows):
        fit = pc.is_valid(rows["id"])  # nothing is downloaded yet: prompts alone
    choice.offer("triples", _TRIPLES, part, order, pc.fill_null(fit, False).to_numpy())


def _triples(choice: Choice, samples: Samples, total: int) -> tuple[Section, list[int]] | None:
    """The section, and for its script the indices of the samples; None where there are none."""
    shown = samples.indices(choice.places("triples"))
    if not shown:
        return None
    text = body("triples.html.j2", shown=len(shown), total=total)
    return Section("triples", "Triples", text), shown


def _times(manifest: Manifest) -> Section | None:
    """From the manifest; None before any stage has run."""
    known = [name for name in _STAGES if name in manifest.stages]
    runs = [
        (name, manifest.stages[name]) for name in [*known, *sorted({*manifest.stages} - {*known})]
    ]
    if not runs:
        return None
    longest = max(run.seconds for _, run in runs) or 1.0
    rows = [
        {
            "stage": name.replace("_", "-"),
            "run": run,
            "rate": run.rows / run.seconds if run.seconds else None,
            "bar": 100 * run.seconds / longest,
            "when": run.finished_at.replace("T", " ").replace("+00:00", " UTC"),
        }
        for name, run in runs
    ]
    text = body(
        "timing.html.j2",
        rows=rows,
        total=sum(run.seconds for _, run in runs),
        versions=", ".join(f"{name} {version}" for name, version in manifest.versions.items()),
    )
    return Section("timing", "Times and rates", text)
