"""Sending to the Hugging Face Hub."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import Any

from surd.cli.printing import print_json, say, warn
from surd.pages.text import bytes_


def push(
    folder: str,
    repo: str,
    *,
    private: bool,
    revision: str | None,
    dry_run: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """``surd push``."""
    from surd.dataset.hub.contents import contents_of
    from surd.dataset.hub.push import check_repo
    from surd.dataset.hub.push import push as send
    from surd.progress import track

    check_repo(repo)
    contents = contents_of(folder)
    for note in contents.notes:
        warn(note)
    if dry_run:
        _print_plan(contents, repo, revision, as_json)
        return
    try:
        with track("push", len(contents.files), quiet=quiet) as tick:
            done = send(contents, repo, private=private, revision=revision, tick=tick)
    except KeyboardInterrupt:
        warn("stopped; run the same command to go on, what was sent is kept")
        sys.exit(130)
    if as_json:
        print_json({"repo": repo, "kind": contents.kind, **asdict(done)})
    elif done.sent or done.removed:
        removed = f", {len(done.removed):,} of before removed" if done.removed else ""
        sent = f"{len(done.sent):,} files sent ({bytes_(done.bytes)})"
        say(f"{done.url}: {sent}, {len(done.there):,} there already{removed}")
    else:
        say(f"{done.url}: has all of it already")


def _print_plan(contents: Any, repo: str, revision: str | None, as_json: bool) -> None:
    total = sum(file.size for file in contents.files)
    if as_json:
        files = [{"name": file.name, "bytes": file.size} for file in contents.files]
        told = {"dry_run": True, "repo": repo, "kind": contents.kind, "revision": revision}
        print_json({**told, "files": files, "bytes": total, "stays": contents.stays})
        return
    for file in contents.files:
        say(f"{bytes_(file.size):>10}  {file.name}")
    if contents.stays:
        say(f"stays here: {', '.join(contents.stays)}")
    say(f"{len(contents.files):,} files, {bytes_(total)}, to the {contents.kind} {repo}")
    say("nothing was sent (--dry-run)")
