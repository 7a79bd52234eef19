"""Making room in a workspace."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Annotated

import typer

from surd.cli.options import Folder, Json
from surd.cli.printing import print_json, say
from surd.errors import SurdError


def clean(
    folder: Folder,
    yes: Annotated[bool, typer.Option("--yes", help="Delete all of it without asking.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List it, and delete nothing.")
    ] = False,
    json_: Json = False,
) -> None:
    """Delete what can be computed again or nobody reads any more; lists it and asks first.

    These are caches of training, the map of surd view, vectors of language models that the recipe
    no longer names, parts without samples, and what killed runs left. Not to be run during a
    training.

    Example: surd clean my-data
    """
    from surd.build.clean import find, remove
    from surd.pages.text import bytes_
    from surd.store.workspace import Workspace

    workspace = Workspace(folder)
    found = find(workspace)
    for one in [] if json_ else found:
        files = f"{len(one.files):,} file{'' if len(one.files) == 1 else 's'}"
        say(f"{one.what}: {files}, {bytes_(one.bytes)}; {one.why}")
    if found and not (yes or dry_run or json_) and not sys.stdin.isatty():
        raise SurdError("nobody is there to be asked; give --yes to delete all of it, or --dry-run")
    chosen = found if yes and not dry_run else []
    if not (yes or dry_run or json_):
        chosen = [one for one in found if typer.confirm(f"delete {one.what}?")]
    remove(workspace, chosen)
    if json_:
        removed = [one.what for one in chosen]
        print_json({"found": [asdict(one) for one in found], "removed": removed})
    elif not found:
        say(f"{folder}: there is nothing to delete")
    elif chosen:
        say(f"deleted: {bytes_(sum(one.bytes for one in chosen))}")
    else:
        say("nothing was deleted")
