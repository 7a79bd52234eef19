"""Simple prompts by hand."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any

import typer

from surd.cli.options import Folder, Json, Quiet
from surd.cli.printing import print_json, say, shown
from surd.cli.running import print_summary, say_next
from surd.errors import SurdError, command

_TAGS_SHOWN = 50


def edit(
    folder: Folder,
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID...", help="Samples, by their ids or the beginnings of these."),
    ] = None,
    simple: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Write the simple prompt.")
    ] = None,
    candidate: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Choose the N-th candidate.")
    ] = None,
    prefix: Annotated[str | None, typer.Option(metavar="TEXT", help="Put TEXT before.")] = None,
    suffix: Annotated[str | None, typer.Option(metavar="TEXT", help="Put TEXT after.")] = None,
    trigger: Annotated[
        str | None,
        typer.Option(metavar="WORD", help="Put a trigger word first, where it is not there yet."),
    ] = None,
    replace: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="OLD NEW", help="Replace a text, also within words; case matters."),
    ] = None,
    replace_word: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="OLD NEW", help="Replace whole words; case matters."),
    ] = None,
    rename_tag: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="OLD NEW", help="Rename a tag, which stands between commas."),
    ] = None,
    remove_tag: Annotated[str | None, typer.Option(metavar="TAG", help="Remove a tag.")] = None,
    reset: Annotated[
        bool, typer.Option("--reset", help="Go back to the simple prompt that is proposed.")
    ] = False,
    undo: Annotated[
        bool,
        typer.Option("--undo", help="Undo the last edit of these samples; without ID, of all."),
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Show what was edited, by whom and when.")
    ] = False,
    tags: Annotated[
        bool, typer.Option("--tags", help="List the tags of the simple prompts with counts.")
    ] = False,
    containing: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="Only simple prompts with this text; case is ignored."),
    ] = None,
    all_: Annotated[bool, typer.Option("--all", help="Change all simple prompts.")] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Then score what was edited, and filter again.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Write nothing.")] = False,
    quiet: Quiet = False,
    json_: Json = False,
) -> None:
    """Edit simple prompts by hand: one, or many at once; nothing is lost, and all can be undone.

    An edit stays when captions are computed again. It takes effect with --apply, or with the next
    surd build: only edited samples are computed again.

    Example: surd edit my-data 3fa94c --simple "a red cup on a table"
    """
    from surd.store.ids import whole_ids
    from surd.store.workspace import Workspace

    actions: dict[str, Any] = {
        "simple": None if simple is None else (simple,),
        "candidate": None if candidate is None else (candidate,),
        "prefix": None if prefix is None else (prefix,),
        "suffix": None if suffix is None else (suffix,),
        "trigger": None if trigger is None else (trigger,),
        "replace": replace,
        "replace-word": replace_word,
        "rename-tag": rename_tag,
        "remove-tag": None if remove_tag is None else (remove_tag,),
        "reset": () if reset else None,
        "undo": () if undo else None,
        "history": () if history else None,
        "tags": () if tags else None,
    }
    given = [name for name, words in actions.items() if words is not None]
    if len(given) > 1:
        raise SurdError(f"--{given[0]} and --{given[1]}: give one at a time")
    if not given and not apply:
        raise SurdError("nothing to do; give one of " + ", ".join(f"--{name}" for name in actions))
    workspace = Workspace(folder)
    workspace.read_manifest()
    chosen = list(dict.fromkeys(whole_ids(workspace, ids or ()).values()))
    action = given[0] if given else ""
    if action in ("history", "tags"):
        _show(workspace, action, chosen, json_=json_)
        return
    result: dict[str, Any] = {}
    if action == "undo":
        result = _undo(workspace, chosen if ids else None, dry_run=dry_run)
    elif action:
        where = _Where(chosen if ids else None, containing, all_)
        outcome = _change(workspace, action, actions[action], where, write=not dry_run)
        result = asdict(outcome)
    done: list[Any] = []
    if apply and not dry_run:
        from surd.build.by_hand import apply as bring_up_to_date

        done = bring_up_to_date(workspace, quiet=quiet or json_)
    if json_:
        print_json({"action": action or None, "dry_run": dry_run, "applied": apply, **result})
        return
    _tell(folder, action, result, dry_run=dry_run)
    if dry_run:
        say("nothing was written (--dry-run)")
    elif apply:
        for summary in done:
            print_summary(summary)
        say_next(folder, command("publish", folder))
    elif result.get("changed"):
        _say_next(workspace)


class _Where:
    """Which samples a command names."""

    def __init__(self, ids: list[str] | None, containing: str | None, all_: bool) -> None:
        self.ids, self.containing = ids, containing
        self.named = ids is not None or containing is not None or all_
        if ids is not None and all_:
            raise SurdError("--all and ids: give one of them")


def _change(workspace: Any, action: str, words: Any, where: _Where, *, write: bool) -> Any:
    from surd.dataset import edit as editing

    if action in ("simple", "candidate", "reset"):
        if where.ids is None or where.containing is not None:
            raise SurdError(f"--{action}: name the samples by their ids")
        if action == "candidate":
            return editing.choose(workspace, where.ids, words[0], write=write)
        text = words[0] if words else None
        return editing.write_one(
            workspace, where.ids, text, editing.what_of(action, words), write=write
        )
    if action in ("prefix", "suffix", "trigger") and not where.named:
        raise SurdError(f"--{action}: of which samples? give ids, --containing TEXT, or --all")
    return editing.change_all(
        workspace,
        editing.change_of(action, *words),
        editing.what_of(action, words),
        ids=where.ids,
        containing=where.containing,
        write=write,
    )


def _undo(workspace: Any, ids: list[str] | None, *, dry_run: bool) -> dict[str, Any]:
    from surd.store import edits

    if dry_run:
        found = edits.read(workspace)
        if ids is None:
            last = found.last(None)
            changed = len(last.texts) if last else 0
        else:
            changed = sum(found.last(id_) is not None for id_ in ids)
        return {"changed": changed}
    return {"changed": len(edits.undo(workspace, ids))}


def _tell(folder: str, action: str, result: dict[str, Any], *, dry_run: bool) -> None:
    for id_, old, new in result.get("examples", ()):
        say(f"{id_[:12]}  - {shown(old)[:200]}")
        say(f"{'':12}  + {shown(new)[:200]}")
    if not result:
        return
    n = result["changed"]
    samples = f"{n:,} sample{'' if n == 1 else 's'}"
    if action == "undo":
        if n:
            say(f"the last edit of {samples} {'would be' if dry_run else 'was'} undone")
        else:
            say("there is no edit to undo")
        return
    told = [f"{samples} {'would be ' if dry_run else ''}edited"]
    notes = {
        "unchanged": "had it already or did not have the text",
        "without": "without a simple prompt yet",
        "emptied": "left as they are, since no word would remain",
        "refused": "left as they are, since they would be too long or have control characters",
    }
    told += [f"{result[key]:,} {note}" for key, note in notes.items() if result[key]]
    say("; ".join(told))


def _say_next(workspace: Any) -> None:
    where = workspace.location
    if workspace.parts("clip"):
        say(f"next: {command('edit', where, '--apply')}, or more edits first")
    else:
        say(f"it counts as soon as the samples are scored: {command('build', '-o', where)}")


def _show(workspace: Any, action: str, ids: list[str], *, json_: bool) -> None:
    from surd.store import edits

    found = edits.read(workspace)
    if action == "tags":
        from surd.dataset.simple_prompts import simple_prompts, tag_counts

        wanted = set(ids)
        prompts = simple_prompts(workspace, found)
        counts = tag_counts(one for one in prompts if not wanted or one[0] in wanted)
        if json_:
            print_json({"tags": [{"tag": tag, "samples": n} for tag, n in counts]})
            return
        for tag, n in counts[:_TAGS_SHOWN]:
            say(f"{n:>8,}  {shown(tag)[:200]}")
        if len(counts) > _TAGS_SHOWN:
            say(f"{len(counts) - _TAGS_SHOWN:,} more; all with --json")
        if not counts:
            say("there are no simple prompts yet")
        return
    if ids:
        told = {id_: edits.history(workspace, id_, found) for id_ in ids}
        if json_:
            print_json({id_: [asdict(change) for change in some] for id_, some in told.items()})
            return
        for id_, some in told.items():
            say(f"{id_}:" if some else f"{id_}: never edited")
            for change in some:
                taken = f" (undone by {shown(change.undone.by)})" if change.undone else ""
                text = "what is proposed" if change.text is None else change.text
                say(f"  {shown(change.at)}  {shown(change.by)}, {shown(change.what)[:60]}{taken}")
                say(f"    {shown(text)[:300]}")
        return
    everything = [
        {
            "edit": one.name,
            "at": one.at,
            "by": one.by,
            "what": one.what,
            "samples": len(one.texts),
            "undone": sum(
                (one.name, None) in found.undone or (one.name, id_) in found.undone
                for id_ in one.texts
            ),
        }
        for one in found.edits
    ]
    if json_:
        print_json({"edits": everything})
        return
    for entry in everything:
        undone = f", {entry['undone']:,} of them undone" if entry["undone"] else ""
        samples = f"{entry['samples']:,} sample{'' if entry['samples'] == 1 else 's'}"
        at, by, what = (shown(entry[key]) for key in ("at", "by", "what"))
        say(f"{at}  {by}, {what[:80]}: {samples}{undone}")
    if not everything:
        say("there are no edits")
