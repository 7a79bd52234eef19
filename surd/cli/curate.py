"""Judging the samples, and publishing those that are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import typer

from surd.cli.lean import start_lean
from surd.cli.options import Folder, Json, Overrides, Quiet
from surd.cli.printing import print_json, say, say_unjudged, shown, warn
from surd.errors import SurdError, WorkspaceError, command

_FLAGS = {"cos_simple": "--clip-threshold", "cos_complex": "--complex-threshold"}
LAST = "last"
_BLOCKS = "▁▂▃▄▅▆▇█"


def filter_(
    folder: Folder,
    clip_threshold: Annotated[
        str | None,
        typer.Option(
            metavar="N|pN|auto|null", help="Minimum cosine of image and simple prompt; null: off."
        ),
    ] = None,
    complex_threshold: Annotated[
        str | None,
        typer.Option(
            metavar="N|pN|auto|null", help="Minimum cosine of image and complex prompt; null: off."
        ),
    ] = None,
    min_margin: Annotated[
        str | None,
        typer.Option(
            metavar="N|pN|auto|null",
            help="Minimum difference of the cosines, simple prompt's minus complex prompt's; "
            "null: off.",
        ),
    ] = None,
    min_aesthetic: Annotated[
        str | None,
        typer.Option(metavar="N|pN|auto|null", help="Minimum aesthetic score; null: off."),
    ] = None,
    max_nsfw: Annotated[
        str | None,
        typer.Option(metavar="N|null", help="Maximum NSFW score, 0 to 1; null: off."),
    ] = None,
    min_side: Annotated[
        str | None,
        typer.Option(
            metavar="PX|null", help="Minimum length of the shorter side, in pixels; null: off."
        ),
    ] = None,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID", help="Keep this sample, whatever the filters say; may be repeated."
        ),
    ] = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="Drop this sample; may be repeated."),
    ] = None,
    undo: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ID|last",
            help="Undo a decision made by hand, may be repeated; last: go back to the settings "
            "before the last change.",
        ),
    ] = None,
    set_: Overrides = None,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Show the scores and suggest thresholds.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Judge every sample again, in seconds; no image is read and no model runs.

    Example: surd filter my-data --clip-threshold 0.28 --min-side 512
    """
    from surd.build.filter_history import settings_before, step_back
    from surd.build.needs import first_to_run, left_out, need_groups, not_scored
    from surd.build.run import open_recipe
    from surd.build.verdicts import changes, compute, current, funnel, unjudged, written
    from surd.cli.running import run_stage, say_next
    from surd.recipe.load import differences, override_recipe
    from surd.recipe.pipeline import params_of, stage_named
    from surd.store import manual
    from surd.store.manual import Decision
    from surd.store.workspace import Workspace

    start_lean()
    workspace = Workspace(folder)
    back = LAST in (undo or ())
    undo = [id_ for id_ in undo or () if id_ != LAST]
    twice = [id_ for ids in ((keep, drop), (keep, undo), (drop, undo)) for id_ in _both(*ids)]
    if twice:
        raise SurdError(f"{twice[0]}: give one of --keep, --drop and --undo for a sample")
    flags = {
        "clip_threshold": clip_threshold,
        "complex_threshold": complex_threshold,
        "min_margin": min_margin,
        "min_aesthetic": min_aesthetic,
        "max_nsfw": max_nsfw,
        "min_side": min_side,
    }
    given = {key: value for key, value in flags.items() if value is not None}
    options = {f"filter.{key}": f"--{key.replace('_', '-')}" for key in given}
    if suggest:
        by_hand_options = {"--keep": keep, "--drop": drop, "--undo": undo or back, "--set": set_}
        named = [name for name, value in by_hand_options.items() if value] + [*options.values()]
        if named:
            raise SurdError(f"--suggest decides nothing; give {', '.join(named)} without it")
        workspace.read_manifest()
        _suggest(workspace, json_)
        return
    overrides = [*(set_ or []), *(f"filter.{key}={value}" for key, value in given.items())]
    own = open_recipe(workspace)
    if back:
        if overrides:
            raise SurdError("--undo last: takes no other settings; give them in another command")
        recipe = own.model_copy(update={"filter": settings_before(workspace, own.filter)})
    else:
        recipe = override_recipe(own, overrides, options)
    by_hand: dict[str, Decision | None] = {
        **dict.fromkeys(keep or (), "keep"),
        **dict.fromkeys(drop or (), "drop"),
        **dict.fromkeys(undo or ()),
    }
    first = first_to_run(workspace, "filter")
    if by_hand and not overrides and not back and first != command("filter", workspace.location):
        manual.decide_all(workspace, by_hand, write=not dry_run)
        _say_decided(len(by_hand), first, dry_run=dry_run, as_json=json_)
        return
    need_groups(workspace, "filter")
    why = not_scored(workspace, own)
    if why is not None:
        warn(why)
    before = current(workspace)
    decisions = manual.decide_all(workspace, by_hand, write=not dry_run)
    if back and not dry_run:
        step_back(workspace, own.filter)
    columns = ["keep", "reasons", *(["id"] if keep else [])]
    if dry_run:
        parts = workspace.parts("samples")
        params = params_of(recipe, stage_named("filter"))
        tables: Iterable[Any] = compute(workspace, params, decisions)
    else:
        run_stage(folder, "filter", overrides, None, quiet=quiet)
        parts = workspace.parts("verdicts")
        tables = written(workspace, columns)
    noted = _Noted(tuple(keep or ()))
    result = funnel(noted.each(tables))
    for id_, reasons in noted.in_vain.items():
        warn(f"{id_}: cannot be kept: {reasons}; the decision counts once that has changed")
    after = dict(zip(parts, noted.kept, strict=True))
    newly_kept, newly_dropped = changes(before, after)
    asked = {override.partition("=")[0].removeprefix("filter.") for override in overrides}
    not_judged = unjudged(workspace, recipe, asked)
    gone_back = differences(own, recipe) if back else []
    if json_:
        print_json(
            {
                "dry_run": dry_run,
                **asdict(result),
                "newly_kept": newly_kept,
                "newly_dropped": newly_dropped,
                "not_judged": {name: one.samples for name, one in not_judged.items()},
                **({"gone_back": {d.key: [d.ours, d.theirs] for d in gone_back}} if back else {}),
            }
        )
        return
    if back:
        changed = ", ".join(f"{d.key} {shown(d.ours)} -> {shown(d.theirs)}" for d in gone_back)
        say(f"the settings before the last change: {changed}")
    _print_funnel(result)
    say_unjudged(not_judged)
    if before:
        moved = f"{newly_kept:,} newly kept, {newly_dropped:,} newly dropped"
        say(f"compared with the previous verdicts: {moved}")
    images = left_out(workspace) if "complex_prompt" not in recipe.publish.require else 0
    if images:
        say(
            f"{images:,} images without a complex prompt are not captioned yet; run: "
            + command("build", "-o", folder)
        )
    if dry_run:
        say("nothing was written (--dry-run)")
    if result.kept == 0:
        say("no samples are left; look at the scores: " + command("filter", folder, "--suggest"))
    elif not dry_run:
        say_next(folder, command("publish", folder))


def publish(
    folder: Folder, set_: Overrides = None, quiet: Quiet = False, json_: Json = False
) -> None:
    """Write the kept samples as a dataset: Parquet shards, card and croissant.json.

    Example: surd publish my-data --set publish.test=0.05
    """
    from surd.cli.running import run_stage

    push = command("push", folder, "--repo", "user/name")
    then = command("report", folder) + ("" if "://" in folder else f", or {push}")
    run_stage(folder, "publish", set_, json_, quiet=quiet, then=then)


def _say_decided(count: int, first: str, *, dry_run: bool, as_json: bool) -> None:
    """Of decisions in a workspace that has no verdicts yet."""
    if as_json:
        print_json({"dry_run": dry_run, "decided": count, "run": first})
        return
    noted = "1 decision" if count == 1 else f"{count:,} decisions"
    say(f"{noted} by hand; they count once the samples are judged; run: {first}")
    if dry_run:
        say("nothing was written (--dry-run)")


@dataclass
class _Noted:
    """What is of interest in verdicts that go by, part by part."""

    wanted: tuple[str, ...]
    """Beginnings of the ids of samples that are to be kept by hand."""
    kept: list[Any] = field(default_factory=list)
    """Of each part, who is kept."""
    in_vain: dict[str, str] = field(default_factory=dict)
    """Id of a wanted sample that is not kept -> what it lacks."""

    def each(self, tables: Iterable[Any]) -> Iterator[Any]:
        """The verdicts as they are, one table a part."""
        from surd.stages.filter.rules import MISSING, REASONS

        for table in tables:
            self.kept.append(table["keep"].to_numpy())
            ids = table["id"].to_pylist() if self.wanted else ()
            for row, id_ in enumerate(ids):
                if id_.startswith(self.wanted) and not self.kept[-1][row]:
                    reasons = [entry["reason"] for entry in table["reasons"][row].as_py()]
                    lacking = [REASONS[name] for name in reasons if name in MISSING]
                    self.in_vain[id_] = "; ".join(lacking)
            yield table


def _both(some: list[str] | None, others: list[str] | None) -> set[str]:
    return set(some or ()) & set(others or ())


def _print_funnel(result: Any) -> None:
    from surd.stages.filter.rules import told_number

    say(f"collected  {result.samples:>10,}")
    for one in result.dropped:
        number = told_number(one.reason, one.threshold) or f"{one.threshold or 0:.4g}"
        threshold = "" if one.threshold is None else f" (threshold {number})"
        say(
            f"  {one.reason:<18}{one.samples:>10,}  {one.samples / result.samples:6.1%}, "
            f"{one.only:,} for this reason only{threshold}"
        )
        if one.why is not None:
            say(f"    {one.why}")
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
            say(f"  two groups, separated best at {about['suggested']:.4f}")
    flags = [
        word
        for name, flag in _FLAGS.items()
        if name in found and found[name]["suggested"] is not None
        for word in (flag, f"{found[name]['suggested']:.4f}")
    ]
    if flags:
        say(f"try: {command('filter', workspace.location, *flags, '--dry-run')}")
    else:
        say(
            "no score separates into two groups; drop a share instead, such as --clip-threshold p10"
        )
