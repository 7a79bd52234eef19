"""Filtering, publishing, exporting and importing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from surd.cli.do_build import run_stage
from surd.cli.printing import print_json, say
from surd.errors import SurdError, WorkspaceError, command

_FLAGS = {"cos_simple": "--clip-threshold", "cos_complex": "--complex-threshold"}
_BLOCKS = "▁▂▃▄▅▆▇█"


def filter_(
    folder: str,
    overrides: Sequence[str],
    flags: Mapping[str, Any],
    *,
    suggest: bool,
    by_hand: Mapping[str, Any],
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """``surd filter``; `by_hand` gives samples' ids a decision: keep, drop or None."""
    from surd.build.needs import need_groups
    from surd.build.run import open_recipe
    from surd.build.verdicts import changes, compute, current, funnel
    from surd.recipe.recipe import override_recipe
    from surd.store import manual
    from surd.store.workspace import Workspace

    workspace = Workspace(folder)
    if suggest:
        workspace.read_manifest()
        _suggest(workspace, as_json)
        return
    given = [f"filter.{key}={_yaml(value)}" for key, value in flags.items() if value is not None]
    recipe = override_recipe(open_recipe(workspace), [*overrides, *given])
    need_groups(workspace, "filter")
    before = current(workspace)
    decisions = manual.decide_all(workspace, by_hand, write=not dry_run)
    if dry_run:
        tables = compute(workspace, recipe.filter, decisions)
        after = {
            part: table["keep"].to_numpy()
            for part, table in zip(workspace.parts("samples"), tables, strict=True)
        }
    else:
        run_stage(folder, "filter", None, [*overrides, *given], as_json=None, quiet=quiet)
        parts = workspace.parts("verdicts")
        after = current(workspace)
        tables = [workspace.read("verdicts", part) for part in parts]
    result = funnel(tables)
    newly_kept, newly_dropped = changes(before, after)
    if as_json:
        print_json(
            {
                "dry_run": dry_run,
                **asdict(result),
                "newly_kept": newly_kept,
                "newly_dropped": newly_dropped,
            }
        )
        return
    _print_funnel(result)
    if before:
        say(f"against the verdicts before: {newly_kept:,} newly kept, {newly_dropped:,} dropped")
    if result.kept == 0:
        say("no sample is left: look at the scores with: " + command("filter", folder, "--suggest"))
    elif dry_run:
        say("nothing was written (--dry-run)")
    else:
        say(f"next: {command('publish', folder)}")


def _yaml(value: Any) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(map(str, value)) + "]"
    return str(value)


def _print_funnel(result: Any) -> None:
    say(f"collected  {result.samples:>10,}")
    for one in result.dropped:
        threshold = "" if one.threshold is None else f" (threshold {one.threshold:.4g})"
        say(
            f"  {one.reason:<18}{one.samples:>10,}  {one.samples / result.samples:6.1%}, "
            f"{one.only:,} for this alone{threshold}"
        )
    by_hand = f", {result.kept_by_hand:,} of them by hand" if result.kept_by_hand else ""
    say(f"kept       {result.kept:>10,}  {result.kept / max(1, result.samples):6.1%}{by_hand}")


def _suggest(workspace: Any, as_json: bool) -> None:
    from surd.build.verdicts import suggestions

    found = suggestions(workspace)
    if not found:
        raise WorkspaceError(
            f"{workspace.location}: clip is missing; first run: "
            + command("score", workspace.location)
        )
    if as_json:
        print_json(found)
        return
    for name, about in found.items():
        counts = about["histogram"]["counts"]
        edges = about["histogram"]["edges"]
        bars = "".join(_BLOCKS[-(-7 * n // max(counts))] for n in counts)
        say(f"{name}: {about['samples']:,} samples from {edges[0]:.3f} to {edges[-1]:.3f}")
        say(f"  {bars}")
        say("  " + ", ".join(f"{q} {value:.3f}" for q, value in about["quantiles"].items()))
        if about["suggested"] is not None:
            say(f"  two heaps, parted best at {about['suggested']:.4f}")
    flags = [
        word
        for name, flag in _FLAGS.items()
        if name in found and found[name]["suggested"] is not None
        for word in (flag, f"{found[name]['suggested']:.4f}")
    ]
    if flags:
        say(f"try: {command('filter', workspace.location, *flags, '--dry-run')}")
    else:
        say("no score falls into two heaps; choose a share to drop, as --clip-threshold p10")


def publish(folder: str, overrides: Sequence[str], *, quiet: bool, as_json: bool) -> None:
    """``surd publish``."""
    push = command("push", folder, "--repo", "user/name")
    then = command("report", folder) + ("" if "://" in folder else f", or {push}")
    run_stage(folder, "publish", None, overrides, as_json=as_json, quiet=quiet, then=then)


def export(folder: str, form: str, out: str, *, quiet: bool, as_json: bool) -> None:
    """``surd export``."""
    from surd.dataset.export.run import export as write
    from surd.progress import track

    with track("export", None, quiet=quiet) as tick:
        done = write(folder, form, out, tick)
    if as_json:
        print_json(asdict(done))
        return
    counts = ", ".join(f"{n:,} {split}" for split, n in done.splits.items())
    say(f"{done.location}: {done.form}, {counts}")


def import_(
    kind: str,
    path: str,
    output: str,
    name: str | None,
    overrides: Sequence[str],
    *,
    replace: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """``surd import``."""
    from surd.cli.do_build import run
    from surd.cli.recipes import own_with_sources
    from surd.recipe.importing import import_recipe
    from surd.recipe.recipe import override_recipe

    if not output:
        raise SurdError("say where to build: surd import KIND PATH -o DIR")
    recipe = import_recipe(kind, path, name)
    if replace:
        recipe = override_recipe(recipe, overrides)
    else:
        named = [f"name={json.dumps(name)}"] if name else []
        recipe = own_with_sources(
            output, recipe, [*named, *overrides], name="the import", taking="--replace"
        )
    run(output, recipe, None, as_json, until="prompts", quiet=quiet)
