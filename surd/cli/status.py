"""How far a workspace has come."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from surd.cli.options import Folder, Json
from surd.cli.printing import print_json, say, say_collected, warn
from surd.errors import one_line

_SHOWN = 10
"""Kinds of parts of a group that are not fresh, at most."""


def status(
    folder: Folder,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every byte and name damaged files.")
    ] = False,
    json_: Json = False,
) -> None:
    """Show what is fresh, stale, missing or failed, and why.

    With --verify, exits with 1 if a file is damaged.

    Example: surd status my-data
    """
    from surd.store.workspace import Workspace

    damage = _verified(Workspace(folder)) if verify else None
    _show_status(folder, damage, as_json=json_)
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
    from surd.build.dataset_state import dataset_state
    from surd.build.run import open_recipe
    from surd.engine.plan import plan_all
    from surd.llm import layout
    from surd.recipe.pipeline import params_of, stages_of
    from surd.stages.collected import collected
    from surd.stages.inventory import gaps
    from surd.store import edits, manual
    from surd.store.prefetch import FOOTERS, ahead
    from surd.store.workspace import Workspace

    workspace = Workspace(folder)
    recipe = open_recipe(workspace)
    parts = workspace.parts("samples")
    look = workspace.part_infos("samples")
    infos = ahead(workspace.storage, parts, lambda part: look("samples", part), FOOTERS)
    rows = sum(info.rows for info in infos if info)
    found = collected(workspace).as_json()
    groups: dict[str, Any] = {"samples": {"parts": len(parts), "rows": rows, "found": found}}
    stages = [(stage, params_of(recipe, stage)) for stage in stages_of(recipe)]
    for stage, states in plan_all(workspace, stages):
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
    dataset = dataset_state(workspace)
    by_hand = {"decisions": len(manual.read(workspace)), "edits": len(edits.current(workspace))}
    if as_json:
        verified = {} if damage is None else {"damage": damage}
        about = {"recipe": recipe.name, "groups": groups, "by_hand": by_hand}
        print_json({"workspace": folder, **about, "dataset": asdict(dataset), **verified})
        return
    cut = f"{len(parts)} part{'s' if len(parts) != 1 else ''}"
    say(f"{folder}: recipe {recipe.name}, {rows:,} samples in {cut}")
    say_collected(found)
    for line in gaps(workspace) if damage is None else ():
        warn(line)
    for group, about in groups.items():
        if group != "samples":
            _print_group(group, about)
    told = [f"{n:,} {what[:-1] if n == 1 else what}" for what, n in by_hand.items() if n]
    if told:
        say(f"by hand: {', '.join(told)}")
    _print_dataset(dataset)
    if damage == []:
        say("verified: no file is damaged")


def _vectors(workspace: Any, group: str, parts: Sequence[int]) -> dict[str, Any]:
    """What there is of a model's layer; whether it is fresh, embed-llm finds out."""
    from surd.store.workspace import DamagedPartError

    counts: Counter[str] = Counter()
    lacking, look = [], workspace.part_infos(group)
    for part in parts:
        try:
            info = look(group, part)
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


def _print_dataset(dataset: Any) -> None:
    """In the words of the groups."""
    told = {"card": "stale card"}.get(dataset.state, dataset.state)
    rows = ", ".join(f"{n:,} {split}" for split, n in dataset.splits.items())
    say(f"dataset: {told}" + (f"; {rows}" if rows else ""))
    if dataset.why:
        say(f"  {dataset.why}")


def _print_group(group: str, about: dict[str, Any]) -> None:
    from surd.stages.inventory import as_ranges

    states = ", ".join(f"{n} {state}" for state, n in about["states"].items()) or "nothing"
    rows = ", ".join(f"{n:,} {status}" for status, n in about["rows_by_status"].items())
    say(f"{group}: {states}" + (f"; {rows}" if rows else ""))
    alike: dict[tuple[str, str], list[int]] = {}
    for part in about["parts"]:
        alike.setdefault((part["state"], part["why"]), []).append(part["part"])
    if len(about["states"]) == 1 and [why for _, why in alike] == [""]:
        return  # of which all has been said
    for (state, why), parts in list(alike.items())[:_SHOWN]:
        which = f"part {parts[0]}" if len(parts) == 1 else f"parts {as_ranges(parts)}"
        say(f"  {one_line(which, 100)} {state}" + (f": {why}" if why else ""))
    rest = sum(len(parts) for parts in list(alike.values())[_SHOWN:])
    if rest:
        say(f"  ... and {rest} more; --json lists all")
