"""Building, stage by stage or all at once, and how far a workspace has come."""

from __future__ import annotations

import difflib
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from surd.cli.printing import log_to_stderr, print_json, say, warn
from surd.errors import SurdError, command
from surd.progress import other_than_ok


def build(
    recipe_name: str | None,
    output: str | None,
    overrides: Sequence[str],
    *,
    plan: bool,
    replace: bool,
    max_failure_rate: float | None,
    as_json: bool,
    **options: Any,
) -> None:
    """``surd build``."""
    from surd.cli.recipes import own_or_demo, own_or_given
    from surd.recipe.recipe import shipped_recipes

    differing = 0
    if recipe_name is None:
        output = output or "surd-demo"
        recipe, which = own_or_demo(output, overrides, replace=replace)
        if not as_json:
            say(f"no recipe given: {which}; others: {', '.join(shipped_recipes())}")
    elif output is None:
        raise SurdError(f"say where to build: {command('build', recipe_name, '-o', 'DIR')}")
    else:
        recipe, differing = own_or_given(output, recipe_name, overrides, replace=replace)
    _check_stage(options["until"])
    if plan:
        _print_plan(output, recipe, as_json)
        return
    run(output, recipe, max_failure_rate, as_json, **options)
    if differing:
        warn(
            f"{output} was built by its own settings where {recipe_name} has others, {differing} "
            "as listed above; --replace takes the recipe's"
        )


def run_stage(
    folder: str,
    stage: str,
    recipe_name: str | None,
    overrides: Sequence[str],
    *,
    as_json: bool | None,
    max_failure_rate: float | None = None,
    **options: Any,
) -> None:
    """One stage on an existing workspace, with its own recipe, or the sources of another too."""
    from surd.build.needs import need_groups
    from surd.build.run import open_recipe
    from surd.cli.recipes import own_with_sources
    from surd.recipe.recipe import find_recipe, load_recipe, override_recipe
    from surd.store.workspace import Workspace

    if stage != "collect":
        workspace = Workspace(folder)
        workspace.read_manifest()
        need_groups(workspace, "filter" if stage == "publish" else stage)
    if recipe_name is not None:
        other = load_recipe(find_recipe(recipe_name))
        taking = command("build", recipe_name, "-o", folder, "--replace")
        recipe = own_with_sources(folder, other, overrides, name=recipe_name, taking=taking)
    else:
        recipe = override_recipe(open_recipe(Workspace(folder)), overrides)
    run(folder, recipe, max_failure_rate, as_json, only=stage, **options)


def run(
    folder: str,
    recipe: Any,
    max_failure_rate: float | None,
    as_json: bool | None,
    *,
    then: str | None = None,
    **options: Any,
) -> None:
    """Build, and print what was done and what to do then; nothing with `as_json` None."""
    from surd.build.run import Options, build
    from surd.store.workspace import Workspace

    log_to_stderr()
    warnings.filterwarnings("ignore", module="PIL")  # broken files are verdicts, not warnings
    logging.getLogger("PIL").setLevel(logging.CRITICAL)
    summaries = []
    try:
        for summary in build(Workspace(folder), recipe, Options(**options)):
            summaries.append(summary)
            if as_json is False:
                _print_summary(summary)
    except KeyboardInterrupt:
        warn("stopped; run the same command to go on")
        sys.exit(130)
    if as_json:
        print_json({"workspace": folder, "stages": [asdict(summary) for summary in summaries]})
    elif as_json is False:
        say(f"next: {then or ', or '.join(command(name, folder) for name in ('report', 'status'))}")
    if any(summary.failed for summary in summaries):
        sys.exit(1)
    _check_failure_rate(summaries, max_failure_rate)


def _check_failure_rate(summaries: Sequence[Any], allowed: float | None) -> None:
    for summary in summaries:
        if allowed is not None and summary.stage == "download" and summary.rows:
            share = 1 - summary.counts.get("ok", 0) / summary.rows
            if share > allowed:
                warn(f"{share:.1%} of the images failed, more than {allowed:.1%} allowed")
                sys.exit(1)


def _check_stage(name: str | None) -> None:
    from surd.recipe.pipeline import stage_names

    if name is not None and name not in stage_names():
        near = difflib.get_close_matches(name, stage_names(), n=1)
        mend = f"did you mean {near[0]}?" if near else f"stages: {', '.join(stage_names())}"
        raise SurdError(f"--until {name}: no such stage; {mend}")


def _print_summary(summary: Any) -> None:
    for problem in summary.problems:
        warn(f"{problem} (kept what it gave)")
    parts = "part" if summary.computed == 1 else "parts"
    did = f"{summary.computed} {parts} computed, {summary.fresh} fresh"
    if summary.failed:
        did += f", {len(summary.failed)} failed"
    if summary.stage == "collect":
        told = ("changed", "gone", "back", "new")
        did = ", ".join(f"{summary.counts[n]:,} {n}" for n in told if n in summary.counts)
        did += f", {summary.counts['known']:,} known before"
    other = "" if summary.stage == "collect" else other_than_ok(summary.counts)
    note = f"; not ok: {other}" if other else ""
    name = summary.stage.replace("_", "-")
    say(f"{name}: {summary.rows:,} rows; {did}{note}; {summary.seconds:.1f} s")
    for part, why in sorted(summary.failed.items()):
        warn(f"{summary.stage}: part {part} failed: {why}")


def _print_plan(folder: str, recipe: Any, as_json: bool) -> None:
    from surd.engine.plan import plan
    from surd.recipe.pipeline import STAGES, params_of
    from surd.store.workspace import Workspace

    workspace = Workspace(folder)
    have = workspace.parts("samples")
    steps: list[dict[str, Any]] = [{"stage": "collect", "parts": len(have)}]
    for stage in STAGES:
        states = Counter(state.state for state in plan(workspace, stage, params_of(recipe, stage)))
        steps.append({"stage": stage.name} | {str(k): n for k, n in states.items()})
    shards = [name for name in workspace.storage.names("dataset") if name.endswith(".parquet")]
    steps.append({"stage": "publish", "shards": len(shards)})
    if as_json:
        print_json({"recipe": recipe.model_dump(mode="json"), "steps": steps})
        return
    say(f"the recipe is valid: {', '.join(source.kind for source in recipe.sources)}")
    for step in steps:
        counts = ", ".join(f"{n} {state}" for state, n in step.items() if state != "stage")
        say(f"{step['stage']}: {counts or 'nothing there yet'}")


def status(folder: str, *, as_json: bool, verify: bool = False) -> None:
    """``surd status``; with `verify` the exit code is 1 where something is damaged."""
    from surd.store.workspace import Workspace

    damage = _verified(Workspace(folder)) if verify else None
    _show_status(folder, damage, as_json=as_json)
    if damage:
        sys.exit(1)


def _verified(workspace: Any) -> list[str]:
    from surd.build.verify import verify

    workspace.read_manifest()
    damage = list(verify(workspace))
    for line in damage:
        warn(line)
    return damage


def _show_status(folder: str, damage: list[str] | None, *, as_json: bool) -> None:
    from surd.build.run import open_recipe
    from surd.engine.plan import plan
    from surd.llm import layout
    from surd.recipe.pipeline import STAGES, params_of
    from surd.store.prefetch import FOOTERS, ahead
    from surd.store.workspace import Workspace

    workspace = Workspace(folder)
    recipe = open_recipe(workspace)
    parts = workspace.parts("samples")
    infos = ahead(workspace.storage, parts, lambda p: workspace.part_info("samples", p), FOOTERS)
    rows = sum(info.rows for info in infos if info)
    groups: dict[str, Any] = {"samples": {"parts": len(parts), "rows": rows}}
    for stage in STAGES:
        states = plan(workspace, stage, params_of(recipe, stage))
        counts: Counter[str] = Counter()
        for state in states:
            counts.update(state.info.extra.get("counts", {}) if state.info else {})
        groups[stage.group] = {
            "stage": stage.name,
            "states": dict(Counter(state.state for state in states)),
            "rows_by_status": dict(counts.most_common()),
            "parts": [
                {"part": s.part, "state": s.state, "why": s.why}
                for s in states
                if as_json or s.state != "fresh"
            ],
        }
    for model, layer in layout.stored(workspace):
        group = layout.group(model, layer)
        groups[group] = _vectors(workspace, group, parts)
    if as_json:
        verified = {} if damage is None else {"damage": damage}
        print_json({"workspace": folder, "recipe": recipe.name, "groups": groups, **verified})
        return
    cut = f"{len(parts)} part{'s' if len(parts) != 1 else ''}"
    say(f"{folder}: recipe {recipe.name}, {rows:,} samples in {cut}")
    for group, about in groups.items():
        if group != "samples":
            _print_group(group, about)
    if damage == []:
        say("verified: no file is damaged")


def _vectors(workspace: Any, group: str, parts: Sequence[int]) -> dict[str, Any]:
    """What there is of a model's layer; whether it is fresh, embed-llm finds out."""
    from surd.store.workspace import DamagedPartError

    counts: Counter[str] = Counter()
    lacking = []
    for part in parts:
        try:
            info = workspace.part_info(group, part)
        except DamagedPartError as error:
            lacking.append({"part": part, "state": "damaged", "why": str(error)})
            continue
        if info is None:
            lacking.append({"part": part, "state": "missing", "why": ""})
        else:
            counts.update(info.extra.get("counts", {}))
    states = {"there": len(parts) - len(lacking), **Counter(part["state"] for part in lacking)}
    return {
        "stage": "embed_llm",
        "states": states,
        "rows_by_status": dict(counts.most_common()),
        "parts": lacking,
    }


def _print_group(group: str, about: dict[str, Any]) -> None:
    states = ", ".join(f"{n} {state}" for state, n in about["states"].items()) or "nothing"
    rows = ", ".join(f"{n:,} {status}" for status, n in about["rows_by_status"].items())
    say(f"{group}: {states}" + (f"; {rows}" if rows else ""))
    shown = about["parts"][:10]
    for part in shown:
        why = f": {part['why']}" if part["why"] else ""
        say(f"  part {part['part']} {part['state']}{why}")
    if len(about["parts"]) > len(shown):
        say(f"  ... and {len(about['parts']) - len(shown)} more; all with --json")
