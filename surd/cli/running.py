"""Running stages for a command, and saying what was done."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from surd.cli.lean import start_lean
from surd.cli.printing import log_to_stderr, print_json, say, say_collected, say_unjudged, warn
from surd.errors import command

_REASONS = 5


def run_stage(
    folder: str,
    stage: str,
    overrides: Sequence[str] | None,
    as_json: bool | None,
    *,
    recipe: str | None = None,
    **options: Any,
) -> None:
    """One stage on an existing workspace, with its own recipe, or the sources of another too."""
    from surd.build.needs import need_groups
    from surd.build.run import open_recipe
    from surd.cli.recipes import own_with_sources
    from surd.recipe.load import find_recipe, load_recipe, override_recipe
    from surd.store.workspace import Workspace

    if stage != "collect":
        workspace = Workspace(folder)
        workspace.read_manifest()
        need_groups(workspace, "filter" if stage == "publish" else stage)
    if recipe is not None:
        other = load_recipe(find_recipe(recipe))
        taking = command("build", recipe, "-o", folder, "--replace")
        chosen = own_with_sources(folder, other, overrides or [], name=recipe, taking=taking)
    else:
        chosen = override_recipe(open_recipe(Workspace(folder)), overrides or [])
    run(folder, chosen, as_json, only=stage, **options)


def run(
    folder: str,
    recipe: Any,
    as_json: bool | None,
    *,
    max_failure_rate: float | None = None,
    then: str | None = None,
    **options: Any,
) -> None:
    """Build, and print what was done and what to run next; nothing with `as_json` None."""
    from surd.build.run import Options, build
    from surd.files.images import hush
    from surd.store.workspace import Workspace

    start_lean()
    log_to_stderr()
    hush()
    summaries = []
    try:
        for summary in build(Workspace(folder), recipe, Options(**options)):
            summaries.append(summary)
            if as_json is False:
                print_summary(summary)
                _print_reasons(folder, summary)
                _print_dropped(folder, summary)
                _print_unjudged(folder, summary)
    except KeyboardInterrupt:
        warn("stopped; rerun the same command to continue")
        sys.exit(130)
    if as_json is None:  # the caller tells the rest
        for summary in summaries:
            _print_failed(summary)
    _print_damage(folder, recipe, summaries)
    if as_json:
        print_json({"workspace": folder, "stages": [asdict(summary) for summary in summaries]})
    elif as_json is False:
        if then is None:
            say_next(folder, f"{command('report', folder)}, or {command('status', folder)}")
        else:
            say(f"next: {then}")
        if not all(one.asked for one in summaries):
            say(f"to look for new samples: {command('collect', folder)}")
    is_short = options.get("only") == "collect" and any(one.problems for one in summaries)
    if is_short or any(summary.failed for summary in summaries):
        sys.exit(1)
    _check_failure_rate(summaries, max_failure_rate)


def say_next(folder: str, then: str) -> None:
    """What to run next: the first stage that is not up to date, or else ``then``."""
    from surd.build.needs import first_due
    from surd.build.run import open_recipe
    from surd.store.workspace import Workspace

    workspace = Workspace(folder)
    due = first_due(workspace, open_recipe(workspace))
    if due is not None:
        then = f"{due}, or {command('build', '-o', folder)}"
    say(f"next: {then}")


def _check_failure_rate(summaries: Sequence[Any], allowed: float | None) -> None:
    """Of images that were to be fetched, and of pictures that a model was asked about."""
    words = {"download": "images", "caption": "captions", "dense": "dense captions"}
    for summary in summaries:
        ok = summary.counts.get("ok", 0)
        failed = summary.rows - ok if summary.stage == "download" else summary.unanswered
        share = failed / max(1, ok + failed)
        if allowed is not None and summary.stage in words and share > allowed:
            what = words[summary.stage]
            warn(f"{share:.1%} of the {what} failed, more than the {allowed:.1%} allowed")
            sys.exit(1)


def print_summary(summary: Any) -> None:
    """What one stage did, in a line."""
    for problem in summary.problems:
        warn(f"{problem} (the records read so far are kept)")
    name = summary.stage.replace("_", "-")
    done = [_sum_up(summary)]
    counts = _counted(summary)
    if counts:
        done.append(counts)
    say(f"{name}: {summary.rows:,} rows; {'; '.join(done)}; {summary.seconds:.1f} s")
    if summary.found is not None and any(summary.counts.values()):
        say_collected(summary.found)
    _print_failed(summary)


def _print_failed(summary: Any) -> None:
    for part, why in sorted(summary.failed.items()):
        warn(f"{summary.stage}: part {part} failed: {why}")


def _print_damage(folder: str, recipe: Any, summaries: Sequence[Any]) -> None:
    """The mend, where a stage failed and a part that it reads is damaged."""
    from surd.build.needs import damaged_input, groups_read
    from surd.store.workspace import Workspace

    for summary in summaries:
        if summary.failed:
            told = damaged_input(Workspace(folder), groups_read(recipe, summary.stage))
            if told is not None:
                warn(told)
                return


def _print_reasons(folder: str, summary: Any) -> None:
    """Why most rows without an answer have none, and how to ask again."""
    if not summary.reasons or not summary.counts.get("ok"):  # else the error that follows tells
        return
    why, times = next(iter(summary.reasons.items()))
    again = command("build", "-o", folder, "--retry-failed")
    mend = f"; to ask again, run: {again}" if summary.counts.get("no_answer") else ""
    warn(f"{summary.stage}: without an answer, most often ({times:,} times): {why}{mend}")


def _print_dropped(folder: str, summary: Any) -> None:
    """Why most samples are dropped, and where there is more."""
    if summary.stage != "filter" or not summary.counts.get("drop"):
        return
    from surd.build.verdicts import funnel, written
    from surd.store.workspace import Workspace

    dropped = funnel(written(Workspace(folder), ["keep", "reasons"])).dropped
    reasons = [f"{one.samples:,} {one.reason}" for one in dropped[:_REASONS]]
    if len(dropped) > _REASONS:
        reasons.append("...")
    more = command("filter", folder, "--dry-run")
    say(f"  dropped (some for several reasons): {', '.join(reasons)}; more: {more}")


def _print_unjudged(folder: str, summary: Any) -> None:
    """Which settings that somebody made judge no samples, or not all."""
    if summary.stage != "filter" or summary.failed:  # which may lack scores altogether
        return
    from surd.build.run import open_recipe
    from surd.build.verdicts import unjudged, unset_settings
    from surd.store.workspace import Workspace

    recipe = open_recipe(Workspace(folder))
    say_unjudged(unjudged(Workspace(folder), recipe, but=unset_settings(recipe)))


def _sum_up(summary: Any) -> str:
    """What was computed; of a collection, what it found."""
    if summary.stage == "collect":
        if not summary.asked:
            return "the sources were read to their end before"
        found = [f"{n:,} {kind}" for kind, n in summary.counts.items() if kind != "known"]
        return ", ".join([*found, f"{summary.counts['known']:,} already known"])
    parts = "part" if summary.computed == 1 else "parts"
    failed = f", {len(summary.failed)} failed" if summary.failed else ""
    return f"{summary.computed} {parts} computed, {summary.fresh} up to date{failed}"


def _counted(summary: Any) -> str:
    """Rows by status, where not all are alike: none of them is passed over in silence."""
    if summary.stage == "collect" or not summary.counts.keys() - {"ok"}:
        return ""
    words = {"keep": "kept", "drop": "dropped"}
    counts = {words.get(status, status): n for status, n in summary.counts.items() if n}
    return ", ".join(f"{n:,} {status}" for status, n in counts.items())
